"""Reading the queue: jobs, their history, positions and estimates, statistics, and transcripts."""
