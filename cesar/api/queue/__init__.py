"""The queue: how jobs enter it, change state, are leased to workers, and are read."""
