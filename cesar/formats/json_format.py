"""JSON: everything in a transcript. `Transcript.from_dict` reads it back."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from cesar.transcript import Transcript

_INDENT = "  "
_ON_ONE_LINE = frozenset({"tokens", "token_logprobs", "token_bytes"})
"""Lists for programs, which would otherwise take hundreds of lines per segment."""


def render(transcript: Transcript) -> str:
    """Render the whole transcript, with keys in the order of the fields, and each list of tokens on one line.

    JSON has no NaN or infinity: a number that is not finite becomes null.
    """
    return "".join(_format(_finite(transcript.to_dict()), "\n")) + "\n"


def _format(value: Any, newline: str) -> Iterator[str]:
    """Yield the parts of a value that begins on a line with the indentation in `newline`."""
    if isinstance(value, dict) and value:
        items: Iterable[tuple[str, Any]] = ((f"{_plain(key)}: ", key) for key in value)
        yield from _format_container("{}", ((lead, value[key], key in _ON_ONE_LINE) for lead, key in items), newline)
    elif isinstance(value, list) and value:
        yield from _format_container("[]", (("", item, False) for item in value), newline)
    else:
        yield _plain(value)


def _format_container(brackets: str, items: Iterable[tuple[str, Any, bool]], newline: str) -> Iterator[str]:
    inner, comma = newline + _INDENT, ""
    yield brackets[0]
    for lead, item, is_on_one_line in items:
        yield f"{comma}{inner}{lead}"
        if is_on_one_line:
            yield _plain(item)
        else:
            yield from _format(item, inner)
        comma = ","
    yield f"{newline}{brackets[1]}"


def _plain(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def _finite(value: Any) -> Any:
    match value:
        case float() if not math.isfinite(value):
            return None
        case dict():
            return {key: _finite(item) for key, item in value.items()}
        case list() | tuple():
            return [_finite(item) for item in value]
        case _:
            return value
