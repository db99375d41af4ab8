"""`cesar serve` and `cesar worker`, which run until a signal ends them."""
