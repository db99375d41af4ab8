"""Declarations of options: `Option`, and `option`, which makes a field of `cesar.options.TranscribeOptions`."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass, field, fields, replace
from typing import Any, Concatenate, Literal, ParamSpec, TypeVar, get_args, get_origin, get_type_hints

from cesar.argument_checks import is_encodable
from cesar.errors import UsageError

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Flag:
    """A flag of the command line that stands for one value of an option, such as `--translate`."""

    value: str
    help: str


@dataclass(frozen=True, slots=True)
class Option:
    """The declaration of an option, from which every interface is derived."""

    help: str
    """A description on one line, for `--help`."""
    _: KW_ONLY
    name: str = ""
    type: Any = None
    """Its type annotation."""
    default: object = None
    details: str = ""
    """Further description, for documentation pages."""
    unset: str = ""
    """The behaviour if it is omitted, unless the default says it."""
    minimum: float = -math.inf
    maximum: float = math.inf
    unit: str = ""
    max_length: int | None = None
    """Maximum number of characters in a request. The library has no limit."""
    example: str | None = None
    metavar: str | None = None
    """The placeholder for its value in `--help`; TIME and N|all also determine how it is parsed."""
    short: str = ""
    """A second, short flag."""
    flag: Flag | None = None
    """The flag that replaces it on the command line."""
    is_library_only: bool = False
    """Whether it exists in the library only, not in commands or requests."""

    @property
    def line(self) -> str:
        """The description on one line, with its unit."""
        return f"{self.help.removesuffix('.')}, in {self.unit}." if self.unit else self.help

    @property
    def text(self) -> str:
        """The full description."""
        return f"{self.line} {self.details}".strip()

    @property
    def kinds(self) -> tuple[Any, ...]:
        """The types of its value, except None and literals."""
        return tuple(kind for kind in self._parts() if kind is not type(None) and get_origin(kind) is not Literal)

    @property
    def choices(self) -> tuple[str, ...]:
        """The allowed words; empty if any text, or none, is accepted."""
        return tuple(word for kind in self._parts() if get_origin(kind) is Literal for word in get_args(kind))

    @property
    def range(self) -> str:
        """The accepted numbers and words as text; empty if there are no limits.

        >>> from cesar.options import OPTIONS
        >>> [OPTIONS[name].range for name in ("beam_size", "task", "track")]
        ['1 to 32', 'transcribe or translate', 'a number from 1 upwards or all']
        """
        *others, last = [*self._bounds(), *self.choices] or [""]
        return f"{', '.join(others)} or {last}" if others else last

    @property
    def default_text(self) -> str:
        """The default as text; empty for what is off by default."""
        return self.unset or (f"{self.default:g}" if isinstance(self.default, float) else str(self.default or ""))

    def check(self, value: object) -> None:
        """Raise `UsageError` unless a value of the right type is within the limits."""
        if isinstance(value, str) and not self.choices:
            if not is_encodable(value):
                raise UsageError(
                    f"the {self._words} {value!r} is not text", hint="Set the terminal's encoding to UTF-8."
                )
        elif self.range and value is not None and not self._is_within(value):
            raise UsageError(f"the {self._words} {value!r} can't be used", hint=f"Use {self.range}.")

    def _is_within(self, value: Any) -> bool:
        if isinstance(value, str) or (self.choices and type(value) not in self.kinds):
            return value in self.choices
        return bool(self.minimum <= value <= self.maximum)  # false for NaN

    def _bounds(self) -> list[str]:
        if math.isinf(self.minimum):
            return []
        if math.isinf(self.maximum):
            return [f"a number from {self.minimum} upwards"]
        return [f"{self.minimum} to {self.maximum} {self.unit}".strip()]

    def _parts(self) -> tuple[Any, ...]:
        is_whole = isinstance(self.type, type) or get_origin(self.type) in (Literal, tuple)
        return (self.type,) if is_whole else get_args(self.type)

    @property
    def _words(self) -> str:
        return self.name.replace("_", " ")


def _field_maker(make: Callable[P, Option]) -> Callable[Concatenate[T, P], T]:
    def make_field(default: T, /, *args: P.args, **declared: P.kwargs) -> T:
        declared_option = replace(make(*args, **declared), default=default)
        found: T = field(default=default, metadata={"option": declared_option})
        return found

    return make_field


option = _field_maker(Option)
"""Declares a field by its default, its help and other fields of `Option`."""


def declared_options(kind: type) -> Mapping[str, Option]:
    """Return the declarations of a dataclass whose fields are made by `option`, by name."""
    types = get_type_hints(kind)
    return {it.name: replace(it.metadata["option"], name=it.name, type=types[it.name]) for it in fields(kind)}
