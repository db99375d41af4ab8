"""Cesar's speed compared with other programs: `scripts/bench speed`. `__main__` is the entry point."""
