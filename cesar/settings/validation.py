"""Checks of settings: each turns a value, or its text, into the setting's type.

A check raises a ValueError that says what is allowed.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

DEVICES = ("auto", "cpu", "cuda")
COMPUTE_TYPES = (
    "auto",
    "int8",
    "int8_float32",
    "int8_float16",
    "int8_bfloat16",
    "int16",
    "float16",
    "bfloat16",
    "float32",
)

Check = Callable[[object], object]


@dataclass(frozen=True, slots=True)
class OneOf:
    """Accepts one of these words, in any case."""

    words: tuple[str, ...]

    def __call__(self, value: object) -> str:
        if isinstance(value, str) and value.lower() in self.words:
            return value.lower()
        raise ValueError(f"one of {', '.join(self.words)}")


def text(what: str) -> Check:
    """Accept any non-empty text; `what` describes it in the error."""

    def check(value: object) -> str:
        if isinstance(value, str) and value.strip():
            return value.strip()
        raise ValueError(what)

    return check


def folder(value: object) -> Path:
    """Accept a folder; ~ is the home folder."""
    if isinstance(value, Path) or (isinstance(value, str) and value.strip()):
        try:
            return Path(value).expanduser()
        except RuntimeError:  # a home that does not exist, as in ~nobody-here/cesar
            pass
    raise ValueError("the path of a folder")


def database(value: object) -> str | None:
    """Accept a file's path or a URL."""
    if value is None:
        return None
    if isinstance(value, (str, Path)) and str(value).strip():
        return str(value).strip()
    raise ValueError("a file's path, or a URL such as sqlite:///cesar.db")


def boolean(value: object) -> bool:
    """Accept true or false, or a synonym."""
    words = {
        "true": True,
        "yes": True,
        "on": True,
        "1": True,
        "false": False,
        "no": False,
        "off": False,
        "0": False,
    }
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in words:
        return words[value.lower()]
    raise ValueError("true or false")


def thread_count(value: object) -> int | None:
    """Accept a number of threads; None and auto leave the choice to Cesar."""
    if value is None or value == "auto":
        return None
    if isinstance(value, str) and value.isascii() and value.isdigit():
        value = int(value[:5])
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 1024:
        return value
    raise ValueError("a whole number from 1 to 1024, or auto")


_MAX_SECONDS = 4_000_000
"""46 days: Windows can wait for threads for at most 2^32 ms."""


def seconds(value: object) -> float:
    """Accept a positive number of seconds that every system can wait."""
    try:
        seconds = math.nan if isinstance(value, bool) else float(value)  # type: ignore[arg-type]  # it may raise
    except (TypeError, ValueError):
        seconds = math.nan
    if 0 < seconds <= _MAX_SECONDS:
        return seconds
    raise ValueError(f"a number of seconds above 0, at most {_MAX_SECONDS}")


def optional(check: Check, word: str) -> Check:
    """Accept None, or a word that stands for it."""

    def checked(value: object) -> object:
        if value is None or value == word:
            return None
        try:
            return check(value)
        except ValueError as wrong:
            raise ValueError(f"{wrong}, or {word}") from None

    return checked


@dataclass(frozen=True, slots=True)
class WholeNumber:
    """Accepts integers within these bounds."""

    minimum: int
    maximum: int

    def __call__(self, value: object) -> int:
        if isinstance(value, str) and value.isascii() and value.isdigit():
            value = int(value[:18])
        if isinstance(value, int) and not isinstance(value, bool) and self.minimum <= value <= self.maximum:
            return value
        raise ValueError(f"a whole number from {self.minimum} to {self.maximum}")


_UNITS = {"": 1, "k": 1024, "m": 1024**2, "g": 1024**3, "t": 1024**4}


def size(value: object) -> int:
    """Accept a number of bytes, or one with a unit such as 500 MB or 4G (powers of 1024)."""
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return value
    found = re.fullmatch(r"(\d{1,15})\s*([kmgt]?)i?b?", str(value).strip().lower()) if isinstance(value, str) else None
    if found is not None and int(found[1]) > 0:
        return int(found[1]) * _UNITS[found[2]]
    raise ValueError("a number of bytes, such as 500MB or 4GB")


def names(value: object) -> tuple[str, ...]:
    """Accept several words: a list, or comma-separated text; `none` is the empty list."""
    if value == "none":
        return ()
    if isinstance(value, str):
        value = value.split(",")
    if isinstance(value, (list, tuple)) and all(isinstance(item, str) for item in value):
        return tuple(item.strip() for item in value if item.strip())
    raise ValueError("names separated by commas")


_ORIGIN = re.compile(r"https?://[^\s/?#@*]+")


def origins(value: object) -> tuple[str, ...]:
    """Accept origins as browsers send them in `Origin` (RFC 6454, 6.2), in any case; a trailing slash is optional."""
    found = tuple(site.removesuffix("/").lower() for site in names(value))
    if all(_ORIGIN.fullmatch(site) for site in found):
        return found
    raise ValueError("origins such as https://example.org, without a path, separated by commas")
