"""What every request passes through before an endpoint, and every response after it."""
