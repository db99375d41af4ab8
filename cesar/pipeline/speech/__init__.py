"""Where somebody speaks, and how speech is divided into chunks."""
