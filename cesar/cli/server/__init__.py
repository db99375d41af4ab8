"""`cesar serve` and `cesar worker`: running until a signal ends them."""
