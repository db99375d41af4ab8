"""What every request passes on its way to an endpoint, and every response on its way out."""
