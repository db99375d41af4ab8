"""The commands: options and the steps from them to a run."""
