"""The backends that run a model's graph: one module for each, and `selection` chooses."""
