"""From what `cesar jobs submit` is given to the jobs that are queued: all of them can be, or none is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from cesar.api.models import Job
from cesar.cli.queue.id_prefix import require_utf8
from cesar.cli.queue.local import LocalQueue, with_queue
from cesar.cli.queue.submit_options import build_options, report_left_out, require_valid_key
from cesar.cli.transcription.inputs import STDIN, expand
from cesar.cli.transcription.model_download import SCRIPTED_PREFIX
from cesar.errors import RecordingNotReadable, UsageError
from cesar.models import store
from cesar.models.catalog import CATALOG

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cesar.cli.transcription.inputs import SourceFile
    from cesar.settings.config import Settings


def submit_all(settings: Settings, on_queued: Callable[[Job], None], **given: Any) -> None:
    """Queue what the arguments name (see `build_jobs`), and tell of each job that is queued."""
    jobs = build_jobs(settings, **given)
    report_left_out(given["inputs"])

    async def create(queue: LocalQueue) -> None:
        for job in jobs:
            on_queued(await queue.create(job))

    with_queue(settings, create, create=True)


def build_jobs(
    settings: Settings, *, inputs: Sequence[str], priority: int, idempotency_key: str | None, **options: Any
) -> list[Job]:
    """Make a job of every recording that the arguments name.

    options: those of `cesar transcribe`, by their parameters' names; None and False are not given.
    Raises `InputError` for the first recording that can't be read, `UsageError` for what can't be queued,
    `UnknownModel`.
    """
    paths = [_absolute_path(recording) for recording in expand(inputs)]
    if idempotency_key is not None:
        require_valid_key(idempotency_key, for_count=len(paths))
    fields: dict[str, Any] = {
        "model_size": _absolute_model(settings),
        "options": build_options(**options),
        "priority": priority,
        "idempotency_key": idempotency_key,
    }
    return [Job(audio_path=path, **fields) for path in paths]


def _absolute_model(settings: Settings) -> str:
    """Name the model so that it is the same wherever the worker runs: a folder by its whole path.

    A model of the catalog need not be here yet. Raises `UnknownModel`.
    """
    name = settings.model
    require_utf8(name)
    if name in CATALOG:
        return name
    if name.startswith(SCRIPTED_PREFIX):
        return SCRIPTED_PREFIX + str(Path(name.removeprefix(SCRIPTED_PREFIX)).absolute())
    return str(store.locate(name, store=settings.models_dir, allow_network=False).directory)


def _absolute_path(recording: SourceFile) -> str:
    """Give the whole path of a recording that will still be there when its turn comes."""
    nothing = "Nothing was queued."
    if recording.problem:
        problem = recording.problem
        raise type(problem)(problem.message, hint=f"{problem.hint} {nothing}")
    path = recording.path
    if path == STDIN or path.is_fifo():
        raise UsageError(f"{recording.name} can't be queued: it is gone when it has been read", hint="Name a file.")
    text = str(path.absolute())
    if text != text.strip() or any("\ud800" <= letter <= "\udfff" for letter in text):
        hint = f"Rename it: a queued name is UTF-8 without blanks at its end. {nothing}"
        raise RecordingNotReadable(f"the name {str(path)!r} can't be queued", hint=hint)
    return text
