"""A synchronous call is a durable job: the same bytes and wishes of a caller are one job, however often they come.

So a caller whose connection broke sends the same again, and joins the job that waits or runs, or has its result.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from dataclasses import asdict
from pathlib import Path

from cesar.api.http.dependencies import Service
from cesar.api.http.openai.wait import until_over
from cesar.api.http.uploads.result_cache import result_key
from cesar.api.models import Job, JobStatus
from cesar.api.queue.enqueue import SubmissionPolicy
from cesar.errors import (
    BY_CODE,
    CesarError,
    FetchFailed,
    IdempotencyConflict,
    IllegalMove,
    InputError,
    JobNotFound,
    RecordingChanged,
    RecordingTooLong,
    StaleJob,
    TooManyJobs,
    UsageError,
)

_MOST_TRIES = 20
"""Each fails only because somebody else has changed the job at that moment."""
_LASTING = (InputError, UsageError)
_NOT_LASTING = (RecordingChanged, RecordingTooLong, FetchFailed)


def key_of(job: Job) -> str:
    """Give the key of all requests for the same work."""
    work = [job.audio_digest, job.model_size, asdict(job.options)]
    return f"v1:{hashlib.sha256(json.dumps(work).encode()).hexdigest()}"


async def join(service: Service, job: Job, upload: Path) -> Job:
    """Give the job that does this work: an earlier one if there is one, else the one given, with what was uploaded.

    One that failed for a reason that may have passed, or was cancelled, is queued again.
    Raises `TooManyJobs` if it would have to wait too long, or the caller has as many as it may.
    """
    job.idempotency_key = key_of(job)
    terms = await _terms(service, job)
    for _ in range(_MOST_TRIES):
        found = await _find_or_make(service, job, upload, terms)
        if found is None:
            continue
        if found.status is JobStatus.PROCESSING and found.cancel_requested_at is not None:
            await _until_cancelled(service, found)
        elif not is_worth_another_try(found):
            return found
        elif terms.refusal is not None:
            raise terms.refusal
        else:
            try:
                return await service.repository.retry(found.id)
            except (IllegalMove, JobNotFound):
                continue
    raise StaleJob(f"the job {job.id} is changed by others all the time", hint="Send the request again.")


def is_worth_another_try(job: Job) -> bool:
    """Whether a job is over without a result, for a reason that lies neither in the recording nor in the request."""
    if job.status is not JobStatus.ERROR:
        return job.status is JobStatus.CANCELLED
    kind = BY_CODE.get(job.error_code or "", CesarError)
    return not issubclass(kind, _LASTING) or issubclass(kind, _NOT_LASTING)


async def _find_or_make(service: Service, job: Job, upload: Path, terms: SubmissionPolicy) -> Job | None:
    """Give the job of the key; None if it went away at this moment."""
    try:
        found = await service.repository.create(job, upload=upload, policy=terms)
    except IdempotencyConflict:  # the recording is called otherwise, or kept elsewhere
        earlier = await service.repository.find_by_key(job.submitter, job.idempotency_key or "")
        if earlier is None:
            return None
        found = earlier
    if _work_of(found) != _work_of(job):
        raise IdempotencyConflict(f"the key {job.idempotency_key!r} was used for another request")
    return found


def _work_of(job: Job) -> tuple[object, ...]:
    return job.submitter, job.audio_digest, job.model_size, job.options


async def _until_cancelled(service: Service, job: Job) -> None:
    try:
        await until_over(service, job.id)
    except JobNotFound:
        return


async def _terms(service: Service, job: Job) -> SubmissionPolicy:
    key = await asyncio.to_thread(result_key, job, service.settings)
    return SubmissionPolicy(
        key, max_open=service.settings.max_open_jobs, refusal=await _refusal(service, job.model_size)
    )


async def _refusal(service: Service, model_size: str) -> TooManyJobs | None:
    """Say why a new job is not taken, if it would be done too late; when the line is empty, any is taken."""
    prospect = await service.outlook.prospect(model_size)
    most_s = service.settings.max_wait_s
    if prospect is None or prospect.starts_in_s == 0 or prospect.ends_in_s <= most_s:
        return None
    error = TooManyJobs(
        f"the answer would take about {prospect.ends_in_s:.0f} s, and more than {most_s:g} s are not waited for",
        hint="Send it again when Retry-After is over, or hand it in with POST /transcribe, which does not wait.",
    )
    error.retry_after_s = min(prospect.starts_in_s, prospect.ends_in_s - most_s)
    return error
