"""Settings: their values, where each came from, and how a value is checked."""
