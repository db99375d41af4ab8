"""Where the queue's data lives: the database, its schema and migrations, and the recordings."""
