"""Where events go: a broker, an HTTP receiver, a file."""
