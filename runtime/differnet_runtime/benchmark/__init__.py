"""The measurements of `differnet bench`: latency of each backend, and of each stage."""
