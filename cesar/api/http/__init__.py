"""The job service on the network. Nothing else in `cesar.api` imports it."""
