"""`cesar transcribe` with a service: uploads a recording, follows its job and fetches the transcript."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import fields, replace
from os import PathLike
from pathlib import Path
from uuid import uuid4

from cesar.cli.queue.remote import job_from_view
from cesar.cli.queue.tables import short_id
from cesar.cli.queue.watch import raise_unless_completed
from cesar.cli.transcription.reporters import write_stderr
from cesar.client import Client, Event
from cesar.errors import CesarError, JobNotFound, ServiceError
from cesar.options import TranscribeOptions
from cesar.transcriber import changed_at
from cesar.transcript import Chunk, Progress, Segment, Transcript, segment_from_dict
from cesar.transcription import OnChunk, OnProgress

OnSent = Callable[[int, int], None]
_SEGMENT_FIELDS = [field.name for field in fields(Segment)]


class RemoteTranscriber:
    """Transcribes recordings as `AudioTranscriber` does, on a service.

    model: None leaves the choice to the service. on_sent: called at each percent with the bytes sent and their total.
    """

    def __init__(self, client: Client, *, model: str | None, on_sent: OnSent) -> None:
        self._client = client
        self._model = model
        self._on_sent = on_sent

    def transcribe(
        self,
        path: str | PathLike[str],
        options: TranscribeOptions | None = None,
        *,
        on_progress: OnProgress | None = None,
        on_chunk: OnChunk | None = None,
    ) -> Transcript:
        """Transcribe one recording. The job is kept on the service; an interruption cancels it there.

        `on_chunk` gets each segment as a chunk of its own. Raises the error of a failed job, and `ServiceError`.
        """
        recording = Path(path)
        key = str(uuid4())  # retries of the upload give the same job
        with _given_path_in_errors(recording):
            job = self._client.submit(
                recording, options, model=self._model, idempotency_key=key, on_sent=_once_per_percent(self._on_sent)
            )
            with self._cancelled_if_interrupted(job.id):
                self._follow(job.id, on_progress or _ignore, on_chunk or _ignore)
                raise_unless_completed(job_from_view(self._client.job(job.id)))
                transcript = Transcript.from_dict(json.loads(self._client.transcript(job.id, "json")))
                return _with_file_time(transcript, recording)

    def _follow(self, job_id: str, on_progress: OnProgress, on_chunk: OnChunk) -> None:
        on_progress(Progress("loading", 0.0, None))
        for event in self._client.events(job_id):
            match event.kind:
                case "progress":
                    on_progress(_progress_from_event(event))
                case "segment":
                    data = {name: event.data[name] for name in _SEGMENT_FIELDS if name in event.data}
                    segment = segment_from_dict(data)
                    on_chunk(Chunk(segment.start, segment.end, (segment,), ()))
                case "deleted":
                    raise JobNotFound(f"the job {job_id} was deleted")

    @contextmanager
    def _cancelled_if_interrupted(self, job_id: str) -> Iterator[None]:
        name = f"the job {short_id(job_id)} at {self._client.url}"
        try:
            yield
        except KeyboardInterrupt:
            with suppress(CesarError):
                self._client.cancel(job_id)
                write_stderr(f"cesar: {name} is cancelled")
            raise
        except ServiceError as error:
            hint = f"{error.hint} {name[0].upper()}{name[1:]} may go on: see `cesar jobs show {short_id(job_id)}`."
            raise type(error)(error.message, hint=hint) from error


@contextmanager
def _given_path_in_errors(recording: Path) -> Iterator[None]:
    """Put the recording's path as given into errors: the service knows only its name."""
    try:
        yield
    except CesarError as error:
        given = str(recording)
        if given not in error.message:
            error.message = error.message.replace(recording.name, given)
        raise


def _with_file_time(transcript: Transcript, recording: Path) -> Transcript:
    """Add the file's modification time, which the service does not know, if the recording's tags have no time."""
    if transcript.origin.recorded_at or not (changed := changed_at(recording)):
        return transcript
    origin = replace(transcript.origin, recorded_at=changed, recorded_at_source="file")
    return replace(transcript, origin=origin)


def _progress_from_event(event: Event) -> Progress:
    data = event.data
    return Progress(data.get("phase") or "loading", data.get("position") or 0.0, data.get("duration"))


def _once_per_percent(on_sent: OnSent) -> OnSent:
    last = -1

    def report(sent: int, total: int) -> None:
        nonlocal last
        percent = 100 * sent // total
        if percent != last:
            last = percent
            on_sent(sent, total)

    return report


def _ignore(_what: object) -> None:
    pass
