"""Receiving recordings: multipart forms, and the files they are written to."""
