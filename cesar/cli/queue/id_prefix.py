"""Id prefixes and other text that users give to find something in a queue."""

from __future__ import annotations

from collections.abc import Sequence

from cesar.errors import JobNotFound, QueueError, UsageError

MIN_PREFIX_LENGTH = 4
"""Fewer letters of an id are too easily another job's."""


def require_utf8(text: str) -> None:
    """Raise `UsageError` for an argument that was no UTF-8: no queue can take it."""
    if any("\ud800" <= letter <= "\udfff" for letter in text):
        raise UsageError(f"{text!r} is not text", hint="The queue takes UTF-8 only.")


def require_min_length(id_prefix: str) -> None:
    """Raise `JobNotFound` for the beginning of an id that is too short to look for."""
    if len(id_prefix) < MIN_PREFIX_LENGTH:
        hint = f"Give its whole id, or at least the first {MIN_PREFIX_LENGTH} letters."
        raise JobNotFound(f"there is no job {id_prefix!r}", hint=hint)


def require_unique(ids: Sequence[str], id_prefix: str) -> str:
    """Give the one id that begins so. Raises `JobNotFound` if there is none, `QueueError` if there are several."""
    if len(ids) > 1:
        raise QueueError(
            f"{id_prefix!r} may be several jobs: {', '.join(ids[:2])}{', ...' if ids[2:] else ''}",
            hint="Give more of the id.",
        )
    if not ids:
        raise JobNotFound(f"there is no job {id_prefix!r}")
    return ids[0]
