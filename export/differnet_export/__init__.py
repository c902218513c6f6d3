"""Writing the trained model as one ONNX graph, and proving that it equals what was trained."""
