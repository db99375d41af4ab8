"""Server-sent events: the subscribers of each job, and the events they are sent."""
