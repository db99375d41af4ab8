"""Forms as OpenAI's clients send them: each encodes lists and objects in its own way.

    timestamp_granularities[]=word  timestamp_granularities[]=segment    openai-python, openai-node
    timestamp_granularities=["word", "segment"]                          JSON
    timestamp_granularities=word,segment                                 plain, or plain and repeated

The values are checked in `request`.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from cesar.errors import BadRequest

_TRUE = frozenset({"true", "1"})
_FALSE = frozenset({"false", "0", "null"})
MAX_ITEMS = 1024
"""Maximum number of items in a list; commas within them count too."""
_HINT = "See OpenAI's reference, or `/docs`."


def invalid_field(field: str, message: str, hint: str = _HINT) -> BadRequest:
    """Return the error for an invalid field."""
    error = BadRequest(message, hint=hint)
    error.field = field
    return error


class Form:
    """The fields of a form, by name. Empty ones are ignored."""

    def __init__(self, fields: Iterable[tuple[str, str]]) -> None:
        self._texts: defaultdict[str, list[str]] = defaultdict(list)
        self._items: defaultdict[str, list[str]] = defaultdict(list)
        self._parts: defaultdict[str, dict[str, str]] = defaultdict(dict)
        for name, text in fields:
            if text.strip():
                self._add(name, text)

    def text(self, name: str) -> str | None:
        """Return a plain field; of a repeated one, the last value."""
        return self._texts[name][-1] if self._texts[name] else None

    def flag(self, name: str) -> bool:
        """Return a boolean, by default false. Raises `BadRequest`."""
        word = (self.text(name) or "false").strip().lower()
        if word not in _TRUE | _FALSE:
            raise invalid_field(name, f"{name} is {word[:64]!r}, but must be true or false")
        return word in _TRUE

    def listed(self, name: str) -> tuple[str, ...]:
        """Return a list, in any of the encodings. Raises `BadRequest` if it is too long."""
        texts = [*self._texts[name], *self._items[name]]
        if len(texts) + sum(text.count(",") for text in texts) > MAX_ITEMS:  # counted before anything is split
            raise invalid_field(name, f"{name} has more than {MAX_ITEMS} items", "Send fewer.")
        found: list[str] = []
        for text in self._texts[name]:
            found += _list_in(text) or text.split(",")
        for text in self._items[name]:
            found += _list_in(text) or [text]
        return tuple(text.strip() for text in found if text.strip())

    def structure(self, name: str) -> str | dict[str, Any] | None:
        """Return an object, in any of the encodings, or the string in its place."""
        if self._parts[name]:
            return dict(self._parts[name])
        text = self.text(name)
        found = None if text is None else _json_in(text)
        return found if isinstance(found, dict) else text

    def _add(self, name: str, text: str) -> None:
        base, _, key = name.partition("[")
        key = key.removesuffix("]")
        if base == name:
            self._texts[name].append(text)
        elif not key or key.isdecimal():
            self._items[base].append(text)
        else:
            self._parts[base][key] = text


def _list_in(text: str) -> list[str] | None:
    """Return a list of strings in JSON; None if the text is something else."""
    found = _json_in(text)
    if isinstance(found, list) and all(isinstance(item, str) for item in found):
        return found
    return None


def _json_in(text: str) -> Any:
    if not text.lstrip().startswith(("[", "{")):
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
