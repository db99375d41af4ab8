"""The child process in which every recording is decoded and recognised, and the parent's side of it."""
