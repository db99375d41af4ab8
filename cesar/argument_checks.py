"""Type checks of the library's arguments: a wrong type is a `UsageError` that says what to pass instead.

Ranges are checked by the classes themselves (`TranscribeOptions`, `Settings`, `SubtitleOptions`).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import cache
from numbers import Integral, Real
from pathlib import Path
from reprlib import Repr
from types import NoneType, UnionType
from typing import Any, TypeVar, get_args, get_type_hints

from cesar.errors import UsageError

T = TypeVar("T")

_SHORT_REPR = Repr()
_TYPE_NAMES: Mapping[type, str] = {
    str: "text",
    bool: "True or False",
    int: "a whole number",
    float: "a number",
    NoneType: "None",
}


def path_of(value: object, what: str) -> Path:
    """Return text or a path object as a Path. Raises `UsageError` for anything else."""
    if isinstance(value, bytes | bytearray | memoryview):
        hint = "Pass text or a Path, such as os.fsdecode(path). Audio in memory must be written to a file first."
        raise UsageError(f"{what} is {type(value).__name__}", hint=hint)
    if isinstance(value, str):
        return Path(value)
    if isinstance(value, os.PathLike):
        return path_of(os.fspath(value), what)
    if hasattr(value, "read"):
        raise UsageError(f"{what} is an open file", hint="Pass its path, or write its content to a file first.")
    if isinstance(value, list | tuple | set | frozenset):
        raise UsageError(f"{what} is a {type(value).__name__}", hint="Pass one path per call.")
    raise UsageError(f"{what} is {_describe(value)}", hint="Pass text or a Path.")


def optional_instance(value: object, kind: type[T], what: str, *, made_by: str | None = None) -> T | None:
    """Return the value if it is None or an instance of the type; else raise `UsageError`, which says what to pass.

    made_by: the call that makes an instance from keyword arguments, if not the type itself; `{}` stands for them.
    """
    if value is None or isinstance(value, kind):
        return value
    made_by = made_by or f"{kind.__name__}({{}})"
    if isinstance(value, Mapping):
        raise UsageError(f"{what} is a {type(value).__name__}", hint=f"Pass {made_by.format(f'**{what}')}.")
    raise UsageError(f"{what} is {_describe(value)}", hint=f"Pass {made_by.format('...')}.")


def optional_callable(value: object, what: str) -> None:
    """Raise `UsageError` unless the value is None or callable."""
    if value is not None and not callable(value):
        raise UsageError(f"{what} is {_describe(value)}", hint="Pass a function, or omit it.")


def is_encodable(text: str) -> bool:
    """Return whether a text can be encoded as UTF-8: lone surrogates, which stand for invalid bytes, can't."""
    return text.isascii() or not any("\ud800" <= character <= "\udfff" for character in text)


def coerce_types(options: Any) -> None:
    """Check every field of a frozen dataclass against its type, and convert other libraries' numbers to plain ones.

    Fields of types other than text, numbers and None are left to the class. Raises `UsageError`.
    """
    for name, kinds in _plain_fields(options.__class__).items():
        value = getattr(options, name)
        converted = _converted(value, kinds)
        if converted is _INVALID:
            wanted = " or ".join(_TYPE_NAMES[kind] for kind in kinds)
            raise UsageError(f"{name} is {_describe(value)}", hint=f"Pass {wanted}.")
        if converted is not value:
            object.__setattr__(options, name, converted)


@cache
def _plain_fields(kind: type) -> Mapping[str, tuple[type, ...]]:
    """Return the types of each field that takes only text, numbers or None."""
    hints = get_type_hints(kind).items()
    found = {name: get_args(hint) if isinstance(hint, UnionType) else (hint,) for name, hint in hints}
    return {name: kinds for name, kinds in found.items() if all(it in _TYPE_NAMES for it in kinds)}


_INVALID: Any = object()


def _converted(value: Any, kinds: tuple[type, ...]) -> Any:
    if type(value) in kinds:
        return value
    is_number = isinstance(value, Real) and not isinstance(value, bool)
    if is_number and int in kinds and isinstance(value, Integral):
        return int(value)
    if is_number and float in kinds:
        return value if isinstance(value, int) else float(value)
    return value if isinstance(value, str) and str in kinds else _INVALID


def _describe(value: object) -> str:
    if value is None:
        return "None"
    kind = type(value).__name__
    return f"{_SHORT_REPR.repr(value)}, {'an' if kind[0] in 'aeiou' else 'a'} {kind}"
