"""Model files on this machine: found, checked, fetched, joined, moved. `store` has the verbs; nothing runs a model."""
