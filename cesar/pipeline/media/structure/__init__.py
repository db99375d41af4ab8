"""What the bytes of a media file say: where it begins and ends, what it is joined of, and what is missing."""
