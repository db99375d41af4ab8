"""Model downloads with progress on standard error."""

from __future__ import annotations

import sys
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING

from cesar.cli.transcription.reporters import write_stderr
from cesar.errors import ModelNotInstalled
from cesar.models import store
from cesar.models.catalog import script_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cesar.settings.config import Settings


def ensure_model(settings: Settings, *, is_silent: bool) -> None:
    """Locate the model, or download it, before any work begins; the transcriber locates it again.

    Raises `ModelError`.
    """
    if script_of(settings.model):
        return
    with nullcontext() if is_silent else download_progress(settings.model) as on_progress:
        store.locate(
            settings.model,
            store=settings.models_dir,
            allow_network=not settings.offline,
            on_progress=on_progress,
        )


def check_model(settings: Settings) -> None:
    """Raise `ModelError` if the model is unavailable; one that can be downloaded is left to the job that needs it."""
    if script_of(settings.model):
        return
    try:
        store.locate(settings.model, store=settings.models_dir, allow_network=False)
    except ModelNotInstalled:
        if settings.offline:
            raise


@contextmanager
def download_progress(name: str) -> Iterator[Callable[[int, int], None]]:
    """Yield a callback that takes the bytes downloaded and their total.

    It shows a bar on a terminal, else a line for every tenth.
    """
    if sys.stderr is not None and sys.stderr.isatty():
        from cesar.cli.transcription.progress import download_bar

        with download_bar(name) as on_progress:
            yield on_progress
    else:
        yield _LineProgress(name)


class _LineProgress:
    def __init__(self, name: str) -> None:
        self._name = name
        self._tenths = -1

    def __call__(self, arrived: int, total: int) -> None:
        tenths = 10 * arrived // total if total else 0
        if tenths > self._tenths:
            self._tenths = tenths
            write_stderr(f"{self._name}: {format_size(arrived)} of {format_size(total)}")


def format_size(size_bytes: int) -> str:
    """Format a size in megabytes or gigabytes.

    >>> format_size(1_530_000_000)
    '1.5 GB'
    """
    return f"{size_bytes / 1e9:.1f} GB" if size_bytes >= 1e9 else f"{size_bytes / 1e6:.0f} MB"
