"""Checks of id prefixes and other text that users give to find something in a queue."""

from __future__ import annotations

from collections.abc import Sequence

from cesar.argument_checks import is_encodable
from cesar.errors import JobNotFound, QueueError, UsageError

MIN_PREFIX_LENGTH = 4
"""A shorter prefix could too easily match another job."""


def require_utf8(text: str) -> None:
    """Raise `UsageError` for an argument that was not UTF-8, which no queue can store."""
    if not is_encodable(text):
        raise UsageError(f"{text!r} is not valid UTF-8", hint="The queue can store UTF-8 only.")


def require_min_length(id_prefix: str) -> None:
    """Raise `JobNotFound` if the prefix is too short to search for."""
    if len(id_prefix) < MIN_PREFIX_LENGTH:
        hint = f"Give the whole id, or at least its first {MIN_PREFIX_LENGTH} characters."
        raise JobNotFound(f"there is no job {id_prefix!r}", hint=hint)


def require_unique(ids: Sequence[str], id_prefix: str) -> str:
    """Return the only matching id. Raises `JobNotFound` if there is none, `QueueError` if there are several."""
    if len(ids) > 1:
        raise QueueError(
            f"{id_prefix!r} matches several jobs: {', '.join(ids[:2])}{', ...' if ids[2:] else ''}",
            hint="Give more characters of the id.",
        )
    if not ids:
        raise JobNotFound(f"there is no job {id_prefix!r}")
    return ids[0]
