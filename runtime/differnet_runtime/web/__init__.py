"""To see a station: a page, its API and its health over HTTP."""
