"""When a recording was made, by the tags of its file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime, timedelta

_TIMES = ("com.apple.quicktime.creationdate", "creation_time", "date")
_EARLIEST = date(1971, 1, 1)
"""Clocks that were never set begin in 1904 or 1970."""


def recorded_at(tags: Iterable[Mapping[str, str]], *, now: datetime) -> str | None:
    """Return the date and time in ISO 8601, in UTC if the tag names a zone; or only the date; None if no tag tells.

    A year alone is when something was published, a date to come is wrong; neither counts.

    >>> recorded_at([{"creation_time": "2024-05-01T12:00:00.000000Z"}], now=datetime(2026, 1, 1, tzinfo=UTC))
    '2024-05-01T12:00:00Z'
    """
    folded = [{name.casefold(): value for name, value in some.items()} for some in tags]
    for name in _TIMES:
        for some in folded:
            if found := _read(some.get(name, "").strip(), now, clock=some.get("creation_time", "").strip()):
                return found
    return None


def _read(text: str, now: datetime, *, clock: str) -> str | None:
    try:
        day = date.fromisoformat(text[:10])
    except ValueError:
        return None
    if not _EARLIEST <= day <= (now + timedelta(days=1)).date():
        return None
    # A broadcast WAV has its date in one tag and its clock in the other.
    whole = f"{text}T{clock}" if len(text) == 10 and len(clock) == 8 else text
    try:
        time = datetime.fromisoformat(whole).replace(microsecond=0)
    except ValueError:
        return day.isoformat()
    if len(whole) == 10:
        return day.isoformat()
    return time.isoformat() if time.tzinfo is None else time.astimezone(UTC).isoformat().replace("+00:00", "Z")
