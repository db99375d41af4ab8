"""Audio in, segments out: one file a stage. `run` is the table of contents."""
