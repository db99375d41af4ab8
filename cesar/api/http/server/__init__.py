"""The HTTP/1.1 connection layer: limits on what one connection or caller may take."""
