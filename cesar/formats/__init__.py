"""The formats a transcript can be written in, found by their names or by a file's extension.

Each format is a module with one pure function, `render(transcript) -> str`; `cesar/files/atomic.py` writes files.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING

from cesar.errors import UnknownFormat
from cesar.formats import json_format, markdown, srt, text, tsv, vtt
from cesar.formats.subtitles.cues import SubtitleOptions

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
    render: Callable[[Transcript, SubtitleOptions], str]
    """Pure. Its text ends with exactly one newline, unless it is empty because nothing was said."""
    is_subtitles: bool = False
    """Whether it heeds the subtitle options."""


def _without_options(render: Callable[[Transcript], str]) -> Callable[[Transcript, SubtitleOptions], str]:
    return lambda transcript, _subtitles: render(transcript)


FORMATS: Mapping[str, Format] = {
    known.name: known
    for known in (
        Format("txt", (".txt", ".text"), "text/plain", _without_options(text.render)),
        Format("srt", (".srt",), "application/x-subrip", srt.render, is_subtitles=True),
        Format("vtt", (".vtt",), "text/vtt", vtt.render, is_subtitles=True),
        Format("json", (".json",), "application/json", _without_options(json_format.render)),
        Format("tsv", (".tsv",), "text/tab-separated-values", _without_options(tsv.render)),
        Format("md", (".md", ".markdown"), "text/markdown", _without_options(markdown.render)),
    )
}
"""Every format by its name."""


def render(transcript: Transcript, name: str, subtitles: SubtitleOptions | None = None) -> str:
    """Write the transcript in the format of that name; raises `UnknownFormat`.

    subtitles: how srt and vtt are set; the other formats don't heed it.
    """
    return _find(name).render(transcript, subtitles or SubtitleOptions())


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
