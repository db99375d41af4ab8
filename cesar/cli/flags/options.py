"""The flags for the options of a transcription, as `cesar.options` declares them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import click

from cesar.cli.flags.gathered import gathered
from cesar.cli.flags.values import complete_language, read_time, read_track
from cesar.option_declarations import Option
from cesar.options import SHARED_OPTIONS, TranscribeOptions

_READERS: Mapping[str | None, Callable[..., object]] = {"TIME": read_time, "N|all": read_track}
"""How a value is read, by its metavar."""
_COMPLETIONS = {"language": complete_language}


def flag_of(declared: Option) -> click.Option:
    """Return the flag for an option."""
    name = f"--{declared.name.replace('_', '-')}"
    if flag := declared.flag:
        return click.Option([f"--{flag.value}", declared.name], flag_value=flag.value, default=None, help=flag.help)
    if bool in declared.kinds:
        return click.Option([name], is_flag=True, default=None, help=declared.help)
    return click.Option(
        [declared.short, name] if declared.short else [name],
        metavar=declared.metavar,
        type=_type(declared),
        callback=_READERS.get(declared.metavar),
        shell_complete=_COMPLETIONS.get(declared.name),
        help=_help(declared),
    )


def _type(declared: Option) -> click.ParamType[Any] | type:
    if declared.metavar in _READERS:
        return str
    if declared.choices:
        return click.Choice(declared.choices)
    return next((kind for kind in declared.kinds if kind in (int, float)), str)


def _help(declared: Option) -> str:
    form = ": seconds, or [HH:]MM:SS." if declared.metavar == "TIME" else "."
    numbers = declared.range if math.isfinite(declared.maximum) and declared.metavar != "TIME" else ""
    default = f"default: {declared.default_text}" if declared.default_text else ""
    limits = "; ".join(filter(None, (numbers, default)))
    return f"{declared.help.removesuffix('.')}{form}{f' [{limits}]' if limits else ''}"


transcribe_options = gathered("options", TranscribeOptions, [flag_of(it) for it in SHARED_OPTIONS.values()])
"""Adds the flags to a command, which gets a `TranscribeOptions` as `options`."""
