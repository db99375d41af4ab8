"""`cesar models`: what models there are, which are here, and how one comes here, by a network or without."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from cesar.cli.params import complete_model
from cesar.cli.transcription.model_download import download_progress, format_size
from cesar.cli.transcription.progress import show_table
from cesar.cli.transcription.reporters import write_stderr
from cesar.errors import ModelCorrupt
from cesar.models import store
from cesar.settings.config import load

if TYPE_CHECKING:
    from cesar.models.store import FileCheck, ModelStatus


@click.group("models")
def command() -> None:
    """List, fetch, check and move models."""


@command.command("list")
def list_() -> None:
    """List every model, with its size and where it is."""
    settings = load()
    rows = [_row(status, settings.model) for status in store.list_models(settings.models_dir)]
    show_table(("NAME", "LANGUAGES", "SIZE", "HERE", "FOLDER"), rows)


def _row(status: ModelStatus, default: str) -> tuple[str, ...]:
    entry = status.entry
    return (
        f"{status.name} (default)" if status.name == default else status.name,
        entry.languages if entry else "",
        format_size(entry.size_bytes) if entry else "",
        status.source or "-",
        str(status.directory or ""),
    )


@command.command("pull")
@click.argument("name", shell_complete=complete_model)
@click.option("--offline", is_flag=True, help="Never use the network: only see whether the model is here.")
def pull(name: str, *, offline: bool) -> None:
    """Download a model, unless it is here.

    What has arrived of a broken download is kept, and the next one goes on there.
    """
    settings = load({"offline": offline or None})
    if settings.offline:
        found = store.locate(name, store=settings.models_dir, allow_network=False)
    else:
        with download_progress(name) as on_progress:
            found = store.pull(name, store=settings.models_dir, on_progress=on_progress)
    write_stderr(f"{found.name} is here: {found.directory}")


@command.command("verify")
@click.argument("name", required=False, shell_complete=complete_model)
def verify(name: str | None) -> None:
    """Compare the files of models with the published digests.

    Without a NAME, those of every model that is here.
    """
    place = load().models_dir
    names = [name] if name else [status.name for status in store.list_models(place) if status.directory]
    checks = [(each, check) for each in names for check in store.verify(each, store=place)]
    show_table(("MODEL", "FILE", "SHA-256", "STATE"), [_check_row(each, check) for each, check in checks])
    bad = [f"{check.file} of {each}" for each, check in checks if not check.ok]
    if bad:
        raise ModelCorrupt(
            f"not what the catalog says: {', '.join(bad)}",
            hint="Get it again with `cesar models pull NAME` or `cesar models import FILE`.",
        )


def _check_row(name: str, check: FileCheck) -> tuple[str, ...]:
    state = "good" if check.ok else "missing" if check.actual is None else "damaged"
    if check.ok and check.expected is None:
        state = "no digest is known"
    return (name, check.file, check.actual or "-", state)


@command.command("import")
@click.argument("path", type=click.Path(readable=False, path_type=Path))
def import_(path: Path) -> None:
    """Take in a model from an exported file or a folder."""
    found = store.import_model(path, store=load().models_dir)
    write_stderr(f"{found.name} is here: {found.directory}")


@command.command("export")
@click.argument("name", shell_complete=complete_model)
@click.argument("path", type=click.Path(readable=False, path_type=Path))
def export(name: str, path: Path) -> None:
    """Write a model as one file, to be imported elsewhere.

    The machine that imports it needs no network.
    """
    target = store.export_model(name, path, store=load().models_dir)
    write_stderr(f"{name} is written to {target}")
