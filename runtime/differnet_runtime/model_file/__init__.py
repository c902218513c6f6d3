"""The model file: the graph, what it says of itself, and what is checked before it runs."""
