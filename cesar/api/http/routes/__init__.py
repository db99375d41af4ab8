"""The endpoints: each reads a request, calls one thing, and answers."""
