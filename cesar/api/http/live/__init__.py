"""Server-sent events: who follows which job, and what they are sent."""
