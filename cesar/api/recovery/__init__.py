"""Damaged and foreign databases: ownership of recordings, salvage and repair."""
