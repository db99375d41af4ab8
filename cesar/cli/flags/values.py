"""Values of flags: times, tracks, and the names that a shell completes."""

from __future__ import annotations

import re

import click
from click.shell_completion import CompletionItem

from cesar.options import Track

TIME = re.compile(r"(?:(?:(?P<hours>[0-9]{1,4}):)?(?P<minutes>[0-9]{1,6}):)?(?P<seconds>[0-9]{1,9}(?:\.[0-9]{1,9})?)")


def parse_time(text: str) -> float:
    """Return the seconds in `90`, `90.5`, `1:30` or `01:02:03.250`.

    Raises ValueError with the accepted forms.
    """
    match = TIME.fullmatch(text.strip())
    if match is None:
        raise ValueError("a time is written as seconds (90.5) or as [HH:]MM:SS (1:30.5)")
    hours, minutes, seconds = (float(part or 0) for part in match.group("hours", "minutes", "seconds"))
    if match["minutes"] and seconds >= 60:
        raise ValueError("seconds after minutes must be below 60")
    if match["hours"] and minutes >= 60:
        raise ValueError("minutes after hours must be below 60")
    return hours * 3600 + minutes * 60 + seconds


def read_time(_ctx: click.Context, _param: click.Parameter, text: str | None) -> float | None:
    """Parse the value of an option that takes a time; click names the option in the error."""
    try:
        return None if text is None else parse_time(text)
    except ValueError as error:
        raise click.BadParameter(f"{text!r}: {error}.") from None


def read_track(_ctx: click.Context, _param: click.Parameter, text: str | None) -> Track | None:
    """Parse the value of an option that takes an audio track: a number, or `all`."""
    if text is None or text == "all":
        return text  # type: ignore[return-value]  # "all" is a Track
    if not re.fullmatch(r"0*[1-9][0-9]{0,3}", text):
        raise click.BadParameter(f"{text!r}: a track is a number from 1 upwards, or all.")
    return int(text)


def complete_model(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem[str]]:
    """Complete the names in the catalog, else folders."""
    from cesar.models.catalog import CATALOG

    names = [CompletionItem(name) for name in CATALOG if name.startswith(incomplete)]
    return names or [CompletionItem(incomplete, type="dir")]


def complete_language(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem[str]]:
    """Complete language codes, with their English names as help."""
    from cesar.engines.languages import LANGUAGES

    return [CompletionItem(code, help=name) for code, name in LANGUAGES.items() if code.startswith(incomplete)]


def complete_format(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem[str]]:
    """Complete format names; in a list such as `srt,v`, the last one."""
    from cesar.formats import FORMATS

    before, comma, last = incomplete.rpartition(",")
    return [CompletionItem(f"{before}{comma}{name}") for name in FORMATS if name.startswith(last)]


inputs_argument = click.argument("inputs", metavar="INPUT...", nargs=-1, required=True, type=click.Path(readable=False))
