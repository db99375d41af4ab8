"""Receiving recordings: multipart forms, and the files that they are written to."""
