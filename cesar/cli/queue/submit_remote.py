"""`cesar jobs submit` with a service: recordings are sent, or their addresses. If one can't be read, none is sent."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cesar.cli.queue.remote import connect, job_of
from cesar.cli.queue.submit_options import model_wished_for, options_of, require_key, tell_left_out
from cesar.cli.transcription.inputs import Recording, expand, local_file

if TYPE_CHECKING:
    from cesar.api.models import Job
    from cesar.client.upload import OnSent
    from cesar.settings.config import Settings

_ADDRESSES = ("http://", "https://")
_BIG_BYTES = 16 * 1024**2
"""What is smaller is sent before a bar could be read."""


def send_all(
    settings: Settings,
    note: Callable[[Job], None],
    *,
    inputs: Sequence[str],
    priority: int,
    idempotency_key: str | None,
    **wishes: Any,
) -> None:
    """Send what the arguments name, one after the other, and tell of each job that is queued.

    wishes: those of `cesar transcribe`, by their parameters' names; None and False are not given.
    Raises `InputError` for the first recording that can't be read, before any is sent.
    """
    sources = _sources(inputs)
    if idempotency_key is not None:
        require_key(idempotency_key, for_count=len(sources))
    terms: dict[str, Any] = {
        "model": model_wished_for(settings),
        "priority": priority,
        "idempotency_key": idempotency_key,
    }
    options = options_of(**wishes)
    tell_left_out(inputs)
    with connect(settings) as client:
        for source in sources:
            if isinstance(source, str):
                view = client.submit_url(source, options, **terms)
            else:
                with local_file(source) as path, _sending_shown(path) as on_sent:
                    view = client.submit(path, options, on_sent=on_sent, **terms)
            note(job_of(view))


def _sources(inputs: Sequence[str]) -> list[str | Recording]:
    """Give addresses as they are and recordings that can be read, in order, each once."""
    found: dict[str, str | Recording] = {}
    for text in inputs:
        for source in [text] if _is_address(text) else expand([text]):
            found.setdefault(source if isinstance(source, str) else os.path.realpath(source.path), source)
    for source in found.values():
        if isinstance(source, Recording) and (problem := source.problem):
            raise type(problem)(problem.message, hint=f"{problem.hint} Nothing was sent.")
    return list(found.values())


def _is_address(text: str) -> bool:
    return text.lower().startswith(_ADDRESSES)


@contextmanager
def _sending_shown(path: Path) -> Iterator[OnSent | None]:
    """Show a bar on a terminal while a big recording is sent."""
    is_watched = sys.stderr is not None and sys.stderr.isatty()
    if not is_watched or path.stat().st_size < _BIG_BYTES:
        yield None
        return
    from cesar.cli.transcription.progress import download_bar

    with download_bar(path.name) as on_sent:
        yield on_sent
