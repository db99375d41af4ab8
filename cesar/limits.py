"""Limits on submissions, shared by the command line, the HTTP API and the database."""

PRIORITIES = (-1000, 1000)
"""The lowest and the highest priority."""
MAX_KEY_LENGTH = 255
"""Maximum length of an idempotency key, in characters."""
