"""The page, the API, the health checks and the metrics of a station."""
