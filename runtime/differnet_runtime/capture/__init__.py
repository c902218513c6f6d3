"""A camera in a process of its own, and the newest frame it gave."""
