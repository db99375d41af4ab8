"""Formatting of times in seconds."""

from __future__ import annotations


def milliseconds(seconds: float) -> int:
    """Round a time to whole milliseconds."""
    return round(seconds * 1000)


def timecode(seconds: float, decimal_mark: str) -> str:
    """Format a time as in subtitles.

    >>> timecode(3725.5, ",")
    '01:02:05,500'
    """
    whole, fraction = divmod(milliseconds(seconds), 1000)
    return f"{clock(whole)}{decimal_mark}{fraction:03}"


def clock(seconds: float) -> str:
    """Format a time in full seconds, rounded down.

    >>> clock(3725.5)
    '01:02:05'
    """
    minutes, second = divmod(int(seconds), 60)
    hour, minute = divmod(minutes, 60)
    return f"{hour:02}:{minute:02}:{second:02}"
