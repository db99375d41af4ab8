"""`cesar models`: the models there are, which are installed, and how to install one, with a network or without."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from cesar.cli.flags.values import complete_model
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
    """List, download, verify and move models."""


@command.command("list")
def list_() -> None:
    """List all models, with size and location."""
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
@click.option("--offline", is_flag=True, help="Never use the network: only check that the model is installed.")
def pull(name: str, *, offline: bool) -> None:
    """Download a model, unless it is installed.

    An interrupted download is kept, and the next one resumes it.
    """
    settings = load({"offline": offline or None})
    if settings.offline:
        found = store.locate(name, store=settings.models_dir, allow_network=False)
    else:
        with download_progress(name) as on_progress:
            found = store.pull(name, store=settings.models_dir, on_progress=on_progress)
    write_stderr(f"{found.name} is installed: {found.directory}")


@command.command("verify")
@click.argument("name", required=False, shell_complete=complete_model)
def verify(name: str | None) -> None:
    """Compare the files of a model with the published digests.

    Without a NAME, the files of all installed models.
    """
    folder = load().models_dir
    names = [name] if name else [status.name for status in store.list_models(folder) if status.directory]
    checks = [(each, check) for each in names for check in store.verify(each, store=folder)]
    show_table(("MODEL", "FILE", "SHA-256", "STATE"), [_check_row(each, check) for each, check in checks])
    bad = [f"{check.file} of {each}" for each, check in checks if not check.ok]
    if bad:
        raise ModelCorrupt(
            f"missing, or not as in the catalog: {', '.join(bad)}",
            hint="Install it again with `cesar models pull NAME` or `cesar models import FILE`.",
        )


def _check_row(name: str, check: FileCheck) -> tuple[str, ...]:
    state = "good" if check.ok else "missing" if check.actual is None else "damaged"
    if check.ok and check.expected is None:
        state = "no known digest"
    return (name, check.file, check.actual or "-", state)


@command.command("import")
@click.argument("path", type=click.Path(readable=False, path_type=Path))
def import_(path: Path) -> None:
    """Import a model from an exported file or a folder."""
    found = store.import_model(path, store=load().models_dir)
    write_stderr(f"{found.name} is installed: {found.directory}")


@command.command("export")
@click.argument("name", shell_complete=complete_model)
@click.argument("path", type=click.Path(readable=False, path_type=Path))
def export(name: str, path: Path) -> None:
    """Write a model to one file that another machine can import.

    That machine needs no network.
    """
    target = store.export_model(name, path, store=load().models_dir)
    write_stderr(f"{name} is written to {target}")
