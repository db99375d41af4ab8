"""The `cesar jobs` commands. Their work on the queue is in modules that are imported when they run."""

from __future__ import annotations

import json
import shutil
import sys
from typing import TYPE_CHECKING

import click

from cesar.cli.exits import one_line
from cesar.cli.flags.gathered import gathered
from cesar.cli.flags.options import transcribe_options
from cesar.cli.flags.settings import queue_flags
from cesar.cli.flags.values import complete_format, complete_model, inputs_argument
from cesar.cli.queue.backend import (
    build_filter,
    list_jobs,
    queue_location,
    read_transcript,
    warn_if_no_worker,
    with_queue,
)
from cesar.cli.queue.submission import Submission
from cesar.cli.transcription.progress import show_table
from cesar.cli.transcription.reporters import write_stderr
from cesar.cli.transcription.subtitle_options import SubtitleFlags, subtitle_flags
from cesar.cli.transcription.writing import write_stdout
from cesar.errors import Interrupted, UsageError
from cesar.formats import parse_formats
from cesar.limits import PRIORITIES

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cesar.api.models import Job, JobEvent, JobFilter
    from cesar.cli.queue.backend import Queue
    from cesar.options import TranscribeOptions
    from cesar.settings.config import Settings

STATUSES = ("queued", "processing", "completed", "error", "cancelled")
"""The values of `JobStatus`, repeated here so that pydantic need not be imported."""

_json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
_id_argument = click.argument("id_prefix", metavar="ID")
_ids_argument = click.argument("id_prefixes", metavar="ID...", nargs=-1, required=True)
_filter_flags = gathered(
    "filters",
    build_filter,
    [
        click.Option(
            ["--status", "statuses"],
            multiple=True,
            type=click.Choice(STATUSES),
            help="Only jobs with this status; can be repeated.",
        ),
        click.Option(
            ["-m", "--model"],
            metavar="NAME|DIR",
            shell_complete=complete_model,
            help="Only jobs for this model.",
        ),
        click.Option(["--name", "name_contains"], metavar="TEXT", help="Only jobs whose names contain TEXT."),
    ],
)


@click.group("jobs")
def command() -> None:
    """Queue recordings, follow their jobs, and read their texts.

    The queue is a database on this machine whose jobs `cesar worker` runs; with --server, it is that of a
    service. The first characters of an ID are enough, at least four.
    """


@command.command("submit")
@inputs_argument
@queue_flags("model")
@transcribe_options
@click.option("--priority", metavar="N", type=click.IntRange(*PRIORITIES), default=0, help="Higher runs first.")
@click.option("--idempotency-key", metavar="KEY", help="Submitted again, the same key gives the same job.")
@_json_option
def submit(
    *,
    inputs: tuple[str, ...],
    settings: Settings,
    options: TranscribeOptions,
    priority: int,
    idempotency_key: str | None,
    as_json: bool,
) -> None:
    """Queue recordings: files, folders, or with --server URLs.

    A folder stands for the media files directly in it.

    Prints the id of each job. Nothing is queued if one of the recordings can't be read.
    """
    from cesar.cli.queue.tables import job_to_dict

    queued: list[Job] = []

    def on_queued(job: Job) -> None:
        queued.append(job)
        if not as_json:
            _print_id(job)

    try:
        _submit_all(settings, Submission(inputs, options, priority, idempotency_key), on_queued)
    finally:  # report what has been queued, whatever happened next
        if as_json:
            _print_json([job_to_dict(job) for job in queued])
    _warn_if_no_worker(settings, queued)


def _warn_if_no_worker(settings: Settings, jobs: Sequence[Job]) -> None:
    if any(not job.status.is_final for job in jobs):
        with_queue(settings, lambda queue: warn_if_no_worker(queue, settings, jobs))


def _submit_all(settings: Settings, submission: Submission, on_queued: Callable[[Job], None]) -> None:
    if settings.server is not None:
        from cesar.cli.queue.submit_remote import submit_all
    else:
        from cesar.cli.queue.submit_local import submit_all

    submit_all(settings, submission, on_queued)


@command.command("list")
@_filter_flags
@click.option(
    "--limit", metavar="N", type=click.IntRange(1, 10_000), default=20, help="At most this many. [default: 20]"
)
@click.option("--all", "all_jobs", is_flag=True, help="List all jobs.")
@click.option("--cursor", metavar="CURSOR", help="Continue where an earlier list ended.")
@queue_flags()
@_json_option
def list_(
    *, filters: JobFilter, limit: int, all_jobs: bool, cursor: str | None, settings: Settings, as_json: bool
) -> None:
    """List jobs, the newest first."""
    from cesar.cli.queue.tables import COLUMNS, job_to_dict, rows

    page = list_jobs(settings, filters, cursor=cursor, limit=None if all_jobs else limit)
    if as_json:
        _print_json({"jobs": [job_to_dict(job) for job in page.jobs], "next_cursor": page.next_cursor})
        return
    if page.jobs:
        show_table(COLUMNS, rows(page.jobs, width=_width()))
    else:
        which = "such jobs" if filters.model_dump(exclude_defaults=True) or cursor else "jobs"
        write_stderr(f"There are no {which} in {queue_location(settings)}.")
    if page.next_cursor:
        write_stderr(f"More jobs: --cursor {page.next_cursor}, or --all.")
    _warn_if_no_worker(settings, page.jobs)


@command.command("show")
@_id_argument
@click.option("--transcript", "as_text", is_flag=True, help="Print the text, and nothing else.")
@click.option(
    "-f",
    "--format",
    "format_name",
    metavar="NAME",
    shell_complete=complete_format,
    help="Print the transcript in this format.",
)
@subtitle_flags
@queue_flags()
@_json_option
def show(
    id_prefix: str,
    *,
    as_text: bool,
    format_name: str | None,
    as_json: bool,
    settings: Settings,
    subtitles: SubtitleFlags,
) -> None:
    """Show all details of a job, or print its transcript.

    Until the job is completed, the transcript is what has been recognised so far.
    """
    if as_text + (format_name is not None) + as_json > 1:
        raise UsageError("only one of --transcript, --format and --json can be given", hint="Choose one.")
    formats = parse_formats(format_name or "txt")
    limits = subtitles.options_for(formats)
    if as_text or format_name is not None:
        job, text = read_transcript(settings, id_prefix, formats if format_name else (), limits)
        if job.status.value != "completed":
            write_stderr(f"{job.name} is {job.status.value}; this is the text recognised so far.")
        write_stdout(text)
        return
    from cesar.cli.queue.tables import EVENT_COLUMNS, Wait, details, event_row, event_to_dict, job_to_dict

    async def read(queue: Queue) -> tuple[Job, Wait, Sequence[JobEvent]]:
        job = await queue.find(id_prefix)
        fetches = await queue.fetches_before([job.id]) if job.source_url else {}
        wait = Wait(await queue.waiting_before(job.id), fetches.get(job.id))
        return job, wait, await queue.events(job.id)

    job, wait, events = with_queue(settings, read)
    if as_json:
        history = [event_to_dict(event) for event in events]
        waits = {"waiting_before": wait.jobs_before, "fetches_before": wait.fetches_before}
        _print_json({**job_to_dict(job), **waits, "events": history})
        return
    show_table(("JOB", ""), details(job, wait))
    click.echo()
    show_table(EVENT_COLUMNS, [event_row(event) for event in events])


@command.command("watch")
@_id_argument
@queue_flags()
@click.option("--json", "as_json", is_flag=True, help="Print the job whenever it changes, one JSON object a line.")
def watch(id_prefix: str, *, settings: Settings, as_json: bool) -> None:
    """Follow a job until it ends. Ctrl-C stops watching, not the job.

    The exit code is 0 if the job was completed, 130 if it was cancelled, and that of its error if it failed.
    """
    from cesar.cli.queue.watch import follow, raise_unless_completed, update_printer

    try:
        with update_printer(as_json=as_json) as on_update:
            job = with_queue(settings, lambda queue: follow(queue, settings, id_prefix, on_update))
    except KeyboardInterrupt as stop:
        raise Interrupted("no longer watching; the job goes on", hint="") from stop
    raise_unless_completed(job)


@command.command("cancel")
@_ids_argument
@queue_flags()
def cancel(id_prefixes: Sequence[str], *, settings: Settings) -> int:
    """Cancel jobs; text that is already recognised is kept.

    A waiting job is cancelled at once, a running one within seconds.
    """
    from cesar.cli.queue import change

    return change.change_each(id_prefixes, settings, change.cancel)


@command.command("retry")
@_ids_argument
@queue_flags()
def retry(id_prefixes: Sequence[str], *, settings: Settings) -> int:
    """Queue failed or cancelled jobs again; they resume where they were."""
    from cesar.cli.queue import change

    return change.change_each(id_prefixes, settings, change.retry)


@command.command("delete")
@_ids_argument
@click.option("-y", "--yes", is_flag=True, help="Don't ask. Without a terminal, there is no question.")
@queue_flags()
def delete(id_prefixes: Sequence[str], *, yes: bool, settings: Settings) -> int:
    """Delete jobs and their texts for good; recordings are kept.

    A running job has to be cancelled first.
    """
    from cesar.cli.queue import change

    must_confirm = not yes and sys.stdin is not None and sys.stdin.isatty()
    return change.change_each(id_prefixes, settings, change.delete, confirm=_confirm if must_confirm else None)


def _confirm(names: str) -> None:
    if not click.confirm(f"Delete {one_line(names)} for good?", err=True):
        raise Interrupted("nothing was deleted", hint="")


def _print_id(job: Job) -> None:
    """Print the job's id and, on a terminal, its name."""
    write_stdout(f"{job.id}  {one_line(job.name)}\n" if _stdout_is_terminal() else f"{job.id}\n")


def _width() -> int:
    """Return the width of the terminal in columns; without a terminal, one that is ample."""
    return shutil.get_terminal_size((80, 24)).columns if _stdout_is_terminal() else 1000


def _stdout_is_terminal() -> bool:
    return sys.stdout is not None and sys.stdout.isatty()


def _print_json(value: object) -> None:
    write_stdout(json.dumps(value, indent=2) + "\n")
