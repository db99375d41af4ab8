"""A damaged or foreign database: who owns the recordings, what can be salvaged, and the repair."""
