"""The queue: how jobs enter it, change state, and are leased to workers."""
