"""What `differnet bench` measures: latency of each backend, and where a frame's time goes."""
