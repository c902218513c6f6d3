"""The model in a process of its own, and the change from one model to another under load."""
