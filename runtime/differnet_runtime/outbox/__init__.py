"""Durable outbox: events are committed before they are sent, and deleted once every sink has them."""
