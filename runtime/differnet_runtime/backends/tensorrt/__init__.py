"""A model file to a TensorRT engine, on the device that runs it."""
