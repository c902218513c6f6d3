"""Durable outbox: events are committed before sending, and deleted once every sink has them."""
