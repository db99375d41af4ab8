"""The HTTP/1.1 connection layer: limits for each connection and caller."""
