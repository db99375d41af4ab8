"""`cesar jobs`: the local queue or a remote one behind the same commands."""
