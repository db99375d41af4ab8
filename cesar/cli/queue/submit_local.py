"""`cesar jobs submit` with the local queue: queues a job for every recording, or none if one can't be queued."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cesar.api.models import Job
from cesar.argument_checks import is_encodable
from cesar.cli.queue.id_prefix import require_utf8
from cesar.cli.queue.local import LocalQueue, with_queue
from cesar.cli.transcription.inputs import STDIN, expand
from cesar.errors import RecordingNotReadable, UsageError
from cesar.models import store
from cesar.models.catalog import CATALOG, absolute_script

if TYPE_CHECKING:
    from collections.abc import Callable

    from cesar.cli.queue.submission import Submission
    from cesar.cli.transcription.inputs import SourceFile
    from cesar.settings.config import Settings


def submit_all(settings: Settings, submission: Submission, on_queued: Callable[[Job], None]) -> None:
    """Queue a job for each recording (see `build_jobs`); `on_queued` is called with each."""
    jobs = build_jobs(settings, submission)
    submission.report_left_out()

    async def create(queue: LocalQueue) -> None:
        for job in jobs:
            on_queued(await queue.create(job))

    with_queue(settings, create, create=True)


def build_jobs(settings: Settings, submission: Submission) -> list[Job]:
    """Return a job for each recording.

    Raises `InputError` for the first recording that can't be read, `UsageError` for one that can't be queued,
    `UnknownModel`.
    """
    paths = [_absolute_path(recording) for recording in expand(submission.inputs)]
    submission.require_valid_key(for_count=len(paths))
    model = _absolute_model(settings)
    return [
        Job(
            audio_path=path,
            model_size=model,
            options=submission.options,
            priority=submission.priority,
            idempotency_key=submission.idempotency_key,
        )
        for path in paths
    ]


def _absolute_model(settings: Settings) -> str:
    """Return a model name that is valid wherever the worker runs: for a folder, its absolute path.

    A model in the catalog need not be installed yet. Raises `UnknownModel`.
    """
    name = settings.model
    require_utf8(name)
    if name in CATALOG:
        return name
    if script := absolute_script(name):
        return script
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
    if text != text.strip() or not is_encodable(text):
        hint = f"Rename it: the name must be UTF-8 without spaces at either end. {nothing}"
        raise RecordingNotReadable(f"the name {str(path)!r} can't be queued", hint=hint)
    return text
