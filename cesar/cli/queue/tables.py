"""The presentation of jobs: rows for people, plain values for programs."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from cesar.api.models import JobStatus, utc_now
from cesar.cli.exits import one_line
from cesar.options import TranscribeOptions

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from cesar.api.models import Job, JobEvent

COLUMNS = ("ID", "STATUS", "NAME", "MODEL", "DONE", "AGE", "TEXT")
EVENT_COLUMNS = ("WHEN", "STATUS", "ATTEMPT", "WHY")
_SHORT_ID = 8
_MIN_TEXT_WIDTH, _MAX_TEXT_WIDTH = 12, 48
_COLUMN_GAP = 2


@dataclass(frozen=True, slots=True)
class Wait:
    """What a waiting job is waiting for; None where it is not waiting for that."""

    jobs_before: int | None = None
    fetches_before: int | None = None


def fetch_wait_reason(count: int) -> str:
    """Return the reason why a recording is not being fetched yet."""
    return f"waiting to be fetched ({count} other fetch{'es' if count > 1 else ''} in progress)"


def job_to_dict(job: Job) -> dict[str, Any]:
    """Return all fields of a job except the owner of its claim, as plain JSON values."""
    return {**job.model_dump(mode="json", exclude={"owner"}), "progress": round(job.progress, 4)}


def event_to_dict(event: JobEvent) -> dict[str, Any]:
    """Return an event as plain JSON values."""
    return event.model_dump(mode="json", exclude={"job_id", "owner"})


def short_id(job_id: str) -> str:
    """Return the start of an id, which nearly always identifies the job."""
    return job_id[:_SHORT_ID]


def label(job: Job) -> str:
    """Return a label for messages: the job's name and short id."""
    return f"{job.name} ({short_id(job.id)})"


def rows(jobs: Sequence[Job], width: int) -> list[tuple[str, ...]]:
    """Return a row for each job, see `COLUMNS`; texts are truncated so that lines fit the width."""
    cells = [_row(job) for job in jobs]
    used = sum(max(map(len, column)) + _COLUMN_GAP for column in zip(COLUMNS, *cells, strict=False))
    text_width = min(_MAX_TEXT_WIDTH, max(_MIN_TEXT_WIDTH, width - used))
    return [(*row, _truncate(_text_or_reason(job), text_width)) for row, job in zip(cells, jobs, strict=True)]


def _row(job: Job) -> tuple[str, ...]:
    age = format_age(utc_now() - job.created_at)
    return short_id(job.id), job.status.value, one_line(job.name), job.model_size, _progress(job), age


def details(job: Job, wait: Wait) -> list[tuple[str, str]]:
    """Return labels and values of all that is known about a job; unknown values are left out."""
    known = [
        ("id", job.id),
        ("name", job.name),
        ("status", _status(job, wait)),
        ("recording", job.location if job.location != job.name else ""),
        ("model", job.model_size),
        ("options", _options(job.options)),
        ("priority", str(job.priority) if job.priority else ""),
        ("key", job.idempotency_key or ""),
        ("queued", format_time(job.created_at)),
        ("started", format_time(job.started_at)),
        ("ended", format_time(job.completed_at)),
        ("not before", format_time(job.run_after)),
        ("attempts", _attempts(job)),
        ("error", f"{job.error_message} ({job.error_code})" if job.error_message else ""),
        ("hint", job.error_hint or ""),
        ("language", job.detected_language or ""),
        *(("warning", warning) for warning in warnings_of(job)),
        ("text", _truncate(job.result_text or "", 200)),
    ]
    return [(what, text) for what, text in known if text]


def event_row(event: JobEvent) -> tuple[str, ...]:
    """Return an event's row; see `EVENT_COLUMNS`."""
    return format_time(event.at), event.after.value, str(event.attempt or ""), event.reason


def describe_event(event: JobEvent) -> str:
    """Describe an event in a few words."""
    match event.after:
        case JobStatus.PROCESSING:
            return f"processing (attempt {event.attempt})"
        case JobStatus.QUEUED if event.before is not None:
            return f"queued again ({event.reason})"
    return event.after.value


def summary(job: Job) -> str:
    """Summarise a completed job as `cesar transcribe` summarises a recording."""
    outcome = job.outcome or {}
    length, took = outcome.get("duration"), (outcome.get("timings") or {}).get("total")
    times = ""
    if length is not None and took is not None:
        times = f", {job.options.requested_s(length):.1f} s in {took:.1f} s"
    nothing = "no text" if outcome.get("dropped_s") else "no speech"
    return f"completed{times}, {job.detected_language if job.result_text else nothing}"


def warnings_of(job: Job) -> list[str]:
    """Return the warnings about a completed job's text."""
    return list((job.outcome or {}).get("warnings") or ())


def format_time(time: datetime | None) -> str:
    """Format a time in the local time zone; empty for None."""
    return "" if time is None else time.astimezone().strftime("%Y-%m-%d %H:%M:%S")


def format_age(age: timedelta) -> str:
    """Format an age in its largest unit.

    >>> format_age(timedelta(seconds=7500))
    '2 h'
    """
    seconds = max(0, int(age.total_seconds()))
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds // length} {unit}"
    return f"{seconds} s"


def _progress(job: Job) -> str:
    if job.status is JobStatus.QUEUED and not job.position:
        return ""
    return f"{job.progress:.0%}"


def _text_or_reason(job: Job) -> str:
    """Return the text of a job in a list: its transcript, its error, or why there is no transcript."""
    if job.status is JobStatus.PROCESSING:
        return ""
    return job.error_message or job.result_text or "; ".join(warnings_of(job))


def _truncate(text: str, length: int) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= length else f"{flat[: length - 1].rstrip()}…"


def _status(job: Job, wait: Wait) -> str:
    parts = [job.status.value]
    if wait.jobs_before is not None:
        parts.append(f"{wait.jobs_before} ahead of it" if wait.jobs_before else "next in line")
    if wait.fetches_before:
        parts.append(fetch_wait_reason(wait.fetches_before))
    if job.status is not JobStatus.COMPLETED and job.duration and job.position:
        parts.append(f"{job.progress:.0%} done ({job.position:.0f} of {job.duration:.0f} s)")
    if job.status is JobStatus.PROCESSING and job.cancel_requested_at:
        parts.append("being cancelled")
    return ", ".join(parts)


def _options(options: TranscribeOptions) -> str:
    defaults = asdict(TranscribeOptions())
    return ", ".join(f"{name} {value}" for name, value in asdict(options).items() if value != defaults[name])


def _attempts(job: Job) -> str:
    counts = [(job.failures, "failed"), (job.losses, "lost their worker")]
    details = ", ".join(f"{count} {what}" for count, what in counts if count)
    return f"{job.attempt} ({details})" if details else str(job.attempt or "")
