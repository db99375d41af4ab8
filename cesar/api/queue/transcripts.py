"""A job's transcript, put together from what the queue has stored: the finished chunks, and what the worker told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import PurePath
from typing import Any

from cesar.api.models import Job, JobStatus
from cesar.errors import QueueError
from cesar.ledger import whole_ledger
from cesar.transcript import Chunk, ModelIdentity, Origin, Transcript

_UNKNOWN = "unknown"


def transcript_of(job: Job, chunks: Sequence[Chunk]) -> Transcript:
    """Give the transcript of a job: that of a completed one is what `AudioTranscriber.transcribe` would give.

    chunks: all that `JobRepository.chunks` gives. While the job is not completed, the transcript is partial: its ledger
    ends where the last chunk does, its language is the one that was asked for, and its model has only a name.
    Raises `QueueError` if the job has a text but no chunks, so that nobody takes it for silence.
    """
    is_partial = job.status is not JobStatus.COMPLETED
    if job.result_text and not chunks:
        raise QueueError(f"of the job {job.id} only the text is stored", hint="Use --transcript.")
    told: dict[str, Any] = job.outcome or {}
    options = job.options
    reached = chunks[-1].end if chunks else options.start
    duration = told.get("duration") or max(job.duration or 0.0, reached)
    return Transcript(
        segments=tuple(segment for chunk in chunks for segment in chunk.segments),
        language=job.detected_language or options.language or _UNKNOWN,
        language_probability=told.get("language_probability") or 0.0,
        duration=duration,
        model=_model(job, told),
        settings=options.to_dict(),
        timings=told.get("timings") or {},
        warnings=tuple(told.get("warnings") or ()),
        ledger=whole_ledger(chunks, reached if is_partial else duration, start=options.start, end=options.end),
        is_partial=is_partial,
        origin=_origin(job, told),
    )


def _origin(job: Job, told: dict[str, Any]) -> Origin:
    """Name the job's recording; when a copy of it was written here says nothing of when it was made."""
    origin = replace(Origin(**(told.get("origin") or {})), recording=PurePath(job.name).name or None)
    if job.audio_digest is not None and origin.recorded_at_source == "file":
        return replace(origin, recorded_at=None, recorded_at_source=None)
    return origin


def _model(job: Job, told: dict[str, Any]) -> ModelIdentity:
    if known := told.get("model"):
        return ModelIdentity(**known)
    return ModelIdentity(job.model_size, _UNKNOWN, "", _UNKNOWN, _UNKNOWN)
