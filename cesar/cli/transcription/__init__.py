"""`cesar transcribe`: inputs, progress, and the files it writes."""
