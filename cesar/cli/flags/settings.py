"""The flags for settings, as `cesar.settings.config` declares them. A command gets all settings as one value."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from cesar.cli.flags.gathered import gathered
from cesar.cli.flags.values import complete_model
from cesar.errors import UsageError
from cesar.settings.config import SETTINGS, Settings, load
from cesar.settings.validation import OneOf, WholeNumber, boolean

C = TypeVar("C", bound=Callable[..., Any])
NO_SERVER = "none"
_COMPLETIONS = {"model": complete_model}


def setting_flags(*wanted: str | click.Option) -> Callable[[C], C]:
    """Add flags to a command, which gets the settings that they lead to as `settings`.

    wanted: names of settings, or flags of its own whose parameters have such names.
    """
    return gathered("settings", lambda **given: load(given), _flags(wanted))


def queue_flags(*wanted: str) -> Callable[[C], C]:
    """Add `--database` and `--server`, and the flags for these settings, to a command that works with a queue."""
    return gathered("settings", _load_for_queue, _flags((*wanted, "database", "server")))


def _load_for_queue(*, database: str | None = None, server: str | None = None, **given: object) -> Settings:
    """Return the settings; either flag overrides the setting of the other. Raises `UsageError` if both are given."""
    if database is not None and server not in (None, NO_SERVER):
        raise UsageError("--database and --server can't both be given", hint="Name one queue.")
    return load({**given, "database": database, "server": server if database is None else NO_SERVER})


def _flags(wanted: tuple[str | click.Option, ...]) -> list[click.Option]:
    return [_flag(it) if isinstance(it, str) else it for it in wanted]


def _flag(name: str) -> click.Option:
    declared = SETTINGS[name]
    long = f"--{name.replace('_', '-')}"
    if declared.check is boolean:
        return click.Option([long], is_flag=True, default=None, help=declared.help)
    return click.Option(
        [declared.short, long] if declared.short else [long],
        metavar=declared.metavar,
        type=_type(declared.check),
        shell_complete=_COMPLETIONS.get(name),
        help=declared.help,
    )


def _type(check: object) -> click.ParamType[Any] | type:
    match check:
        case OneOf(words):
            return click.Choice(words)
        case WholeNumber(minimum, maximum):
            return click.IntRange(minimum, maximum)
        case _:
            return str
