"""The station over HTTP: its page, its API, its health."""
