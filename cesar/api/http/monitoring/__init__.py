"""Health, metrics, and jobs with their queue positions and estimates."""
