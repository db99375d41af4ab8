"""Checks of what callers of the library pass: a wrong type is a `UsageError` that names what to pass instead.

Values are checked where they are made (`TranscribeOptions`, `Settings`, `SubtitleOptions`).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import fields
from numbers import Integral, Real
from pathlib import Path
from reprlib import Repr
from types import NoneType, UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from cesar.errors import UsageError

T = TypeVar("T")

_BRIEF = Repr()
_NAMES: Mapping[type, str] = {
    str: "text",
    bool: "True or False",
    int: "a whole number",
    float: "a number",
    NoneType: "None",
}


def path_of(value: object, what: str) -> Path:
    """Return a path that was given as text or as a path object. Raises `UsageError` for anything else."""
    if isinstance(value, bytes | bytearray | memoryview):
        hint = "Pass text or a Path: os.fsdecode(path). Audio in memory has to be written to a file first."
        raise UsageError(f"{what} is given as {type(value).__name__}", hint=hint)
    if isinstance(value, str):
        return Path(value)
    if isinstance(value, os.PathLike):
        return path_of(os.fspath(value), what)
    if hasattr(value, "read"):
        raise UsageError(f"{what} is an open file", hint="Pass its path, or write what it holds to a file first.")
    if isinstance(value, list | tuple | set | frozenset):
        raise UsageError(f"{what} is a {type(value).__name__}", hint="Pass one path a call.")
    raise UsageError(f"{what} is {_described(value)}", hint="Pass text or a Path.")


def optional_instance(value: object, kind: type[T], what: str, *, made_by: str | None = None) -> T | None:
    """Return the value if it is None or an instance of the type. Raises `UsageError`, naming what to pass.

    made_by: the call that makes an instance from keyword arguments, if it isn't the type itself; `{}` stands for them.
    """
    if value is None or isinstance(value, kind):
        return value
    made_by = made_by or f"{kind.__name__}({{}})"
    if isinstance(value, Mapping):
        raise UsageError(f"{what} is a {type(value).__name__}", hint=f"Pass {made_by.format(f'**{what}')}.")
    raise UsageError(f"{what} is {_described(value)}", hint=f"Pass {made_by.format('...')}.")


def optional_callable(value: object, what: str) -> None:
    """Raise `UsageError` unless the value is None or callable."""
    if value is not None and not callable(value):
        raise UsageError(f"{what} is {_described(value)}", hint="Pass a function, or leave it out.")


def settle_types(options: Any) -> None:
    """Check every field of a frozen dataclass against its type, and convert other libraries' numbers to plain ones.

    Fields whose types are not text, numbers or None are left to the class. Raises `UsageError`.
    """
    hints = get_type_hints(type(options))
    for field in fields(options):
        kinds = get_args(hints[field.name]) if isinstance(hints[field.name], UnionType) else (hints[field.name],)
        if any(get_origin(kind) or kind not in _NAMES for kind in kinds):
            continue
        value = getattr(options, field.name)
        settled = _settled(value, kinds)
        if settled is _REFUSED:
            wanted = " or ".join(_NAMES[kind] for kind in kinds)
            raise UsageError(f"{field.name} is {_described(value)}", hint=f"Pass {wanted}.")
        if settled is not value:
            object.__setattr__(options, field.name, settled)


_REFUSED: Any = object()


def _settled(value: Any, kinds: tuple[type, ...]) -> Any:
    if type(value) in kinds:
        return value
    is_number = isinstance(value, Real) and not isinstance(value, bool)
    if is_number and int in kinds and isinstance(value, Integral):
        return int(value)
    if is_number and float in kinds:
        return value if isinstance(value, int) else float(value)
    return value if isinstance(value, str) and str in kinds else _REFUSED


def _described(value: object) -> str:
    if value is None:
        return "None"
    kind = type(value).__name__
    return f"{_BRIEF.repr(value)}, {'an' if kind[0] in 'aeiou' else 'a'} {kind}"
