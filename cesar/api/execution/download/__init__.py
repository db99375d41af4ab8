"""Fetching a recording from its address: from where it may come, how, and going on where a connection broke."""
