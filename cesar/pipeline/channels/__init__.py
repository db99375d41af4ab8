"""Which channels of a recording are heard: their mix, or the one that holds the speech."""
