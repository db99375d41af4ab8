"""Downloads of recordings: which addresses are allowed, the requests, and resuming after a broken connection."""
