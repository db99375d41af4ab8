"""Limits of what is submitted to a queue, the same on the command line, over HTTP and in the database."""

PRIORITIES = (-1000, 1000)
"""The lowest and the highest."""
MAX_KEY_LENGTH = 255
"""Characters of an idempotency key."""
