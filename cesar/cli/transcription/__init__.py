"""`cesar transcribe`: its inputs, its progress, and the files it writes."""
