"""`cesar config`: the location of the settings file, and every setting with the origin of its value."""

from __future__ import annotations

import json
from pathlib import Path

import click

from cesar.cli.transcription.writing import write_stdout
from cesar.settings.config import SETTINGS, Settings, load
from cesar.settings.sources import settings_file

_SECRETS = frozenset({"api_key"})
_MASK = "********"


@click.group("config")
def command() -> None:
    """Show the settings and where they come from."""


@command.command("path")
def path() -> None:
    """Print the path of the settings file, whether or not it exists."""
    write_stdout(f"{settings_file()}\n")


@command.command("show")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
def show(*, as_json: bool) -> None:
    """Show each setting, its value, and where the value came from.

    That is a variable, the settings file or the default.
    """
    settings = load()
    if as_json:
        shown = {name: {"value": setting_value(settings, name), "origin": _origin(settings, name)} for name in SETTINGS}
        write_stdout(json.dumps(shown, indent=2) + "\n")
        return
    from cesar.cli.transcription.progress import show_table

    show_table(("SETTING", "VALUE", "FROM"), [_row(settings, name) for name in SETTINGS])


def setting_value(settings: Settings, name: str) -> object:
    """Return a setting's value as JSON represents it; secrets are masked."""
    match getattr(settings, name):
        case None:
            return None
        case Path() as folder:
            return str(folder)
        case tuple() as several:
            return list(several)
        case value:
            return _MASK if name in _SECRETS else value


def _row(settings: Settings, name: str) -> tuple[str, str, str]:
    match setting_value(settings, name):
        case None:
            text = "-"
        case bool() as answer:
            text = str(answer).lower()
        case list() as several:
            text = ", ".join(several) or "-"
        case float() as number:
            text = f"{number:g}"
        case value:
            text = str(value)
    return name, text, _origin(settings, name)


def _origin(settings: Settings, name: str) -> str:
    return settings.origins[name]
