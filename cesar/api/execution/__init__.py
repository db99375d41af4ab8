"""What a worker does for one job besides the queue: fetching, running, throttled logs."""
