"""`cesar jobs submit` with a service: uploads recordings or sends their URLs; sends none if one can't be read."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cesar.cli.queue.remote import connect, job_from_view
from cesar.cli.queue.submit_options import build_options, report_left_out, requested_model, require_valid_key
from cesar.cli.transcription.inputs import SourceFile, expand, local_file

if TYPE_CHECKING:
    from cesar.api.models import Job
    from cesar.client.upload import OnSent
    from cesar.settings.config import Settings

_URL_SCHEMES = ("http://", "https://")
_MIN_BAR_BYTES = 16 * 1024**2
"""A smaller upload ends before anyone could read a progress bar."""


def submit_all(
    settings: Settings,
    on_queued: Callable[[Job], None],
    *,
    inputs: Sequence[str],
    priority: int,
    idempotency_key: str | None,
    **options: Any,
) -> None:
    """Submit each recording or URL that the arguments name; `on_queued` is called with each job.

    options: those of `cesar transcribe` by parameter name; None and False mean not given.
    Raises `InputError` for the first recording that can't be read, before any is sent.
    """
    sources = _sources(inputs)
    if idempotency_key is not None:
        require_valid_key(idempotency_key, for_count=len(sources))
    request: dict[str, Any] = {
        "model": requested_model(settings),
        "priority": priority,
        "idempotency_key": idempotency_key,
    }
    transcribe_options = build_options(**options)
    report_left_out(inputs)
    with connect(settings) as client:
        for source in sources:
            if isinstance(source, str):
                view = client.submit_url(source, transcribe_options, **request)
            else:
                with local_file(source) as path, _upload_bar(path) as on_sent:
                    view = client.submit(path, transcribe_options, on_sent=on_sent, **request)
            on_queued(job_from_view(view))


def _sources(inputs: Sequence[str]) -> list[str | SourceFile]:
    """Return URLs as they are and readable recordings, in order, without duplicates."""
    found: dict[str, str | SourceFile] = {}
    for text in inputs:
        for source in [text] if _is_url(text) else expand([text]):
            found.setdefault(source if isinstance(source, str) else os.path.realpath(source.path), source)
    for source in found.values():
        if isinstance(source, SourceFile) and (problem := source.problem):
            raise type(problem)(problem.message, hint=f"{problem.hint} Nothing was sent.")
    return list(found.values())


def _is_url(text: str) -> bool:
    return text.lower().startswith(_URL_SCHEMES)


@contextmanager
def _upload_bar(path: Path) -> Iterator[OnSent | None]:
    """Show a progress bar on a terminal while a big recording is sent."""
    is_terminal = sys.stderr is not None and sys.stderr.isatty()
    if not is_terminal or path.stat().st_size < _MIN_BAR_BYTES:
        yield None
        return
    from cesar.cli.transcription.progress import download_bar

    with download_bar(path.name) as on_sent:
        yield on_sent
