"""Every method on every set of pictures at hand: `python -m benchmarks.suite`."""
