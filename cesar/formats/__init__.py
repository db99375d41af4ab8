"""The formats a transcript can be written in, found by their names or by a file's extension.

Each format is a module with one pure function, `render(transcript) -> str`. Writing to files is `output.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING

from cesar.errors import UnknownFormat
from cesar.formats import json_format, markdown, srt, text, tsv, vtt

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from os import PathLike

    from cesar.transcript import Transcript


@dataclass(frozen=True, slots=True)
class Format:
    """One way to write a transcript down."""

    name: str
    extensions: tuple[str, ...]
    """In lower case with the dot; the first is the one given to new files."""
    media_type: str
    render: Callable[[Transcript], str]
    """Pure. Its text ends with exactly one newline, unless it is empty because nothing was said."""


FORMATS: Mapping[str, Format] = {
    known.name: known
    for known in (
        Format("txt", (".txt", ".text"), "text/plain", text.render),
        Format("srt", (".srt",), "application/x-subrip", srt.render),
        Format("vtt", (".vtt",), "text/vtt", vtt.render),
        Format("json", (".json",), "application/json", json_format.render),
        Format("tsv", (".tsv",), "text/tab-separated-values", tsv.render),
        Format("md", (".md", ".markdown"), "text/markdown", markdown.render),
    )
}
"""Every format by its name."""


def render(transcript: Transcript, name: str) -> str:
    """Write the transcript in the format of that name; raises `UnknownFormat`."""
    return _find(name).render(transcript)


def format_for_path(path: str | PathLike[str]) -> str | None:
    """Name the format that a file's extension stands for, in either case; None if it stands for none.

    >>> format_for_path("talks/Opening.SRT")
    'srt'
    """
    extension = PurePath(path).suffix.lower()
    return next((known.name for known in FORMATS.values() if extension in known.extensions), None)


def parse_formats(names: str) -> tuple[str, ...]:
    """Read a list of format names with commas between them, keeping its order and dropping repeats.

    Raises `UnknownFormat` for a name that is none, and when no name is left.

    >>> parse_formats("srt, vtt,SRT")
    ('srt', 'vtt')
    """
    wanted = [name.strip().lower() for name in names.split(",") if name.strip()]
    if not wanted:
        raise UnknownFormat("no format is named")
    return tuple(dict.fromkeys(_find(name).name for name in wanted))


def _find(name: str) -> Format:
    try:
        return FORMATS[name]
    except KeyError:
        raise UnknownFormat(f"there is no format named {name!r}") from None
