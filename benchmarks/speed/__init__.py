"""Cesar's speed beside others': `scripts/bench speed`. `__main__` is the way in; each part is a module."""
