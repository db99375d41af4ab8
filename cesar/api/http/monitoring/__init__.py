"""Health, metrics, and how jobs are presented with their place in the queue."""
