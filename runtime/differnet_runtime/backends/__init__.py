"""How the graph is executed: one module a backend; `..selection` chooses among them."""
