"""From what `cesar jobs submit` is given to the jobs that are queued: all of them can be, or none is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from cesar.api.models import Job
from cesar.cli.queue.id_prefix import require_text
from cesar.cli.queue.local import LocalQueue, in_queue
from cesar.cli.queue.submit_options import options_of, require_key, tell_left_out
from cesar.cli.transcription.inputs import STDIN, expand
from cesar.cli.transcription.model_download import SCRIPTED
from cesar.errors import RecordingNotReadable, UsageError
from cesar.models import store
from cesar.models.catalog import CATALOG

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cesar.cli.transcription.inputs import Recording
    from cesar.settings.config import Settings


def queue_all(settings: Settings, note: Callable[[Job], None], **given: Any) -> None:
    """Queue what the arguments name (see `new_jobs`), and tell of each job that is queued."""
    jobs = new_jobs(settings, **given)
    tell_left_out(given["inputs"])

    async def create(queue: LocalQueue) -> None:
        for job in jobs:
            note(await queue.create(job))

    in_queue(settings, create, may_make=True)


def new_jobs(
    settings: Settings, *, inputs: Sequence[str], priority: int, idempotency_key: str | None, **wishes: Any
) -> list[Job]:
    """Make a job of every recording that the arguments name.

    wishes: those of `cesar transcribe`, by their parameters' names; None and False are not given.
    Raises `InputError` for the first recording that can't be read, `UsageError` for what can't be queued,
    `UnknownModel`.
    """
    paths = [_lasting_path(recording) for recording in expand(inputs)]
    if idempotency_key is not None:
        require_key(idempotency_key, for_count=len(paths))
    options, model = options_of(**wishes), _lasting_model(settings)
    return [
        Job(audio_path=path, model_size=model, options=options, priority=priority, idempotency_key=idempotency_key)
        for path in paths
    ]


def _lasting_model(settings: Settings) -> str:
    """Name the model so that it is the same wherever the worker runs: a folder by its whole path.

    A model of the catalog need not be here yet. Raises `UnknownModel`.
    """
    name = settings.model
    require_text(name)
    if name in CATALOG:
        return name
    if name.startswith(SCRIPTED):
        return SCRIPTED + str(Path(name.removeprefix(SCRIPTED)).absolute())
    return str(store.locate(name, store=settings.models_dir, allow_network=False).directory)


def _lasting_path(recording: Recording) -> str:
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
