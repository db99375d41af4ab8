"""OpenAI's audio endpoints over the queue, exactly as programs written for `whisper-1` expect them."""
