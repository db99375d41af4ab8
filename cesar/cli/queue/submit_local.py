"""`cesar jobs submit` with the local queue: queues a job for every recording, or none if one can't be queued."""

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
    """Queue a job for each recording that the arguments name (see `build_jobs`); `on_queued` is called with each."""
    jobs = build_jobs(settings, **given)
    report_left_out(given["inputs"])

    async def create(queue: LocalQueue) -> None:
        for job in jobs:
            on_queued(await queue.create(job))

    with_queue(settings, create, create=True)


def build_jobs(
    settings: Settings, *, inputs: Sequence[str], priority: int, idempotency_key: str | None, **options: Any
) -> list[Job]:
    """Return a job for each recording that the arguments name.

    options: those of `cesar transcribe` by parameter name; None and False mean not given.
    Raises `InputError` for the first recording that can't be read, `UsageError` for one that can't be queued,
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
    """Return a model name that is valid wherever the worker runs: for a folder, its absolute path.

    A model in the catalog need not be installed yet. Raises `UnknownModel`.
    """
    name = settings.model
    require_utf8(name)
    if name in CATALOG:
        return name
    if name.startswith(SCRIPTED_PREFIX):
        return SCRIPTED_PREFIX + str(Path(name.removeprefix(SCRIPTED_PREFIX)).absolute())
    return str(store.locate(name, store=settings.models_dir, allow_network=False).directory)


def _absolute_path(recording: SourceFile) -> str:
    """Return the absolute path of a recording that can still be read when its job runs."""
    nothing = "Nothing was queued."
    if recording.problem:
        problem = recording.problem
        raise type(problem)(problem.message, hint=f"{problem.hint} {nothing}")
    path = recording.path
    if path == STDIN or path.is_fifo():
        raise UsageError(f"{recording.name} can't be queued: it can be read only once", hint="Name a file.")
    text = str(path.absolute())
    if text != text.strip() or any("\ud800" <= char <= "\udfff" for char in text):
        hint = f"Rename it: the name must be UTF-8 without spaces at either end. {nothing}"
        raise RecordingNotReadable(f"the name {str(path)!r} can't be queued", hint=hint)
    return text
