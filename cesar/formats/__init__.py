"""The formats of transcripts, found by name or by file extension.

Each format is a module with one pure function, `render`: a transcript in (subtitles also take their options), text out.
`cesar/files/atomic.py` writes files.
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
    """A format of transcripts."""

    name: str
    extensions: tuple[str, ...]
    """In lower case, with the dot; new files get the first one."""
    media_type: str
    render: Callable[[Transcript, SubtitleOptions], str]
    """A pure function. Its text ends with exactly one newline, unless it is empty because nothing was said."""
    is_subtitles: bool = False
    """Whether it uses the subtitle options."""


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
"""Every format, by name."""
FORMAT_NAMES = ", ".join(FORMATS)
"""The names, for help texts and hints."""
UNKNOWN_FORMAT_HINT = f"Formats: {FORMAT_NAMES}."


def render(transcript: Transcript, name: str, subtitles: SubtitleOptions | None = None) -> str:
    """Render the transcript in the format of that name; raise `UnknownFormat` if there is none.

    subtitles: the limits for srt and vtt; other formats ignore them.
    """
    return _find(name).render(transcript, subtitles or SubtitleOptions())


def format_for_path(path: str | PathLike[str]) -> str | None:
    """Return the name of the format with a file's extension, in either case, or None.

    >>> format_for_path("talks/Opening.SRT")
    'srt'
    """
    extension = PurePath(path).suffix.lower()
    return next((known.name for known in FORMATS.values() if extension in known.extensions), None)


def parse_formats(names: str) -> tuple[str, ...]:
    """Parse a comma-separated list of format names, keeping its order and dropping duplicates.

    Raises `UnknownFormat` for an unknown name or an empty list.

    >>> parse_formats("srt, vtt,SRT")
    ('srt', 'vtt')
    """
    wanted = [name.strip().lower() for name in names.split(",") if name.strip()]
    if not wanted:
        raise UnknownFormat("no format is named", hint=UNKNOWN_FORMAT_HINT)
    return tuple(dict.fromkeys(_find(name).name for name in wanted))


def _find(name: str) -> Format:
    try:
        return FORMATS[name]
    except KeyError:
        raise UnknownFormat(f"there is no format named {name!r}", hint=UNKNOWN_FORMAT_HINT) from None
