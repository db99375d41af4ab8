"""OpenAI's audio endpoints over the queue: what programs written for `whisper-1` expect, to the letter."""
