"""From a chunk's audio to text: decoding passes, quality checks, language detection."""
