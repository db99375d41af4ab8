"""Opening media files: which are recordings, which track holds speech, what their headers get wrong."""
