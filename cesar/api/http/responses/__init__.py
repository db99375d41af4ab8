"""Sending results: content negotiation, media types, byte ranges."""
