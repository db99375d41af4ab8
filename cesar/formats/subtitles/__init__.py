"""Subtitles: cues, and the lines in them."""
