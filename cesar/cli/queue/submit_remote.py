"""`cesar jobs submit` with a service: uploads recordings or sends their URLs; sends none if one can't be read."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from cesar.cli.queue.remote import connect, job_from_view
from cesar.cli.queue.submission import Submission
from cesar.cli.transcription.inputs import SourceFile, expand, local_file

if TYPE_CHECKING:
    from cesar.api.models import Job
    from cesar.client import Client, JobView
    from cesar.client.upload import OnSent
    from cesar.settings.config import Settings

_URL_SCHEMES = ("http://", "https://")
_MIN_BAR_BYTES = 16 * 1024**2
"""A smaller upload ends before anyone could read a progress bar."""


def submit_all(settings: Settings, submission: Submission, on_queued: Callable[[Job], None]) -> None:
    """Submit each recording or URL; `on_queued` is called with each job.

    Raises `InputError` for the first recording that can't be read, before any is sent.
    """
    sources = _sources(submission.inputs)
    submission.require_valid_key(for_count=len(sources))
    submission.report_left_out()
    with connect(settings) as client:
        for source in sources:
            on_queued(job_from_view(_submit(client, source, submission, settings.chosen_model)))


def _submit(client: Client, source: str | SourceFile, submission: Submission, model: str | None) -> JobView:
    options, priority, key = submission.options, submission.priority, submission.idempotency_key
    if isinstance(source, str):
        return client.submit_url(source, options, model=model, priority=priority, idempotency_key=key)
    with local_file(source) as path, _upload_bar(path) as on_sent:
        return client.submit(path, options, model=model, priority=priority, idempotency_key=key, on_sent=on_sent)


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
