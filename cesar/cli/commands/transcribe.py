"""`cesar transcribe`: its flags, and the steps from them to a run."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cesar.cli.flags.gathered import gathered
from cesar.cli.flags.options import transcribe_options
from cesar.cli.flags.settings import NO_SERVER, setting_flags
from cesar.cli.flags.values import complete_format, inputs_argument
from cesar.cli.logs import package_log
from cesar.cli.transcription.batch import Batch
from cesar.cli.transcription.inputs import expand, left_out
from cesar.cli.transcription.model_download import ensure_model
from cesar.cli.transcription.outputs import choose_destination, plan_outputs
from cesar.cli.transcription.reporters import JsonReporter, LineReporter
from cesar.cli.transcription.subtitle_options import SubtitleFlags, subtitle_flags
from cesar.cli.transcription.writing import prepare_outputs
from cesar.errors import UsageError
from cesar.formats import FORMAT_NAMES
from cesar.options import TranscribeOptions
from cesar.settings.config import Settings
from cesar.settings.sources import FLAG
from cesar.transcriber import AudioTranscriber

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cesar.cli.transcription.batch import Transcriber
    from cesar.cli.transcription.outputs import Destination, FileTask
    from cesar.cli.transcription.reporters import Reporter

_OUTPUT_PATH = click.Path(readable=False, path_type=Path)
"""Without click's own check of read access, which it reports as wrong usage."""
_LOCAL_SETTINGS = ("device", "compute_type", "offline")
_destination_flags = gathered(
    "destination",
    choose_destination,
    [
        click.Option(["-o", "--output", "file"], metavar="FILE", type=_OUTPUT_PATH, help="Write the text to FILE."),
        click.Option(
            ["-d", "--output-dir", "folder"],
            metavar="DIR",
            type=_OUTPUT_PATH,
            help="Write each text to DIR, named after its recording. DIR is created if missing.",
        ),
        click.Option(
            ["-f", "--format", "formats"],
            metavar="NAMES",
            multiple=True,
            shell_complete=complete_format,
            help=f"{FORMAT_NAMES}, separated by commas. [default: by FILE's extension, else txt]",
        ),
        click.Option(["--skip-existing"], is_flag=True, help="Skip recordings whose texts all exist."),
    ],
)


@dataclass(frozen=True, slots=True)
class Reporting:
    """What a run prints besides its texts."""

    quiet: bool
    verbose: bool
    json_lines: bool


_reporting_flags = gathered(
    "reporting",
    Reporting,
    [
        click.Option(["-q", "--quiet"], is_flag=True, help="Print errors only."),
        click.Option(["-v", "--verbose"], is_flag=True, help="Print more, including tracebacks of internal errors."),
        click.Option(["--json-lines"], is_flag=True, help="Write events to standard error, one JSON object per line."),
    ],
)


@click.command("transcribe")
@inputs_argument
@_destination_flags
@setting_flags("model", *_LOCAL_SETTINGS, "server")
@transcribe_options
@subtitle_flags
@_reporting_flags
def command(
    *,
    inputs: tuple[str, ...],
    destination: Destination,
    settings: Settings,
    options: TranscribeOptions,
    subtitles: SubtitleFlags,
    reporting: Reporting,
) -> int:
    """Transcribe files, folders, or - for standard input.

    A folder stands for the media files directly in it.

    Without -o or -d the text goes to standard output. If there are several recordings, each text follows a
    line `== NAME ==`, except in JSON, where one document follows the other.

    -o with several formats replaces FILE's extension with that of each format. -d names each text after its
    recording, and keeps the recording's extension where two would share a name: a.mp3.txt, a.wav.txt.
    Text from standard input is named stdin.
    """
    _reject_local_flags(settings)
    limits = subtitles.options_for(destination.formats)
    tasks = plan_outputs(expand(inputs), destination)
    prepare_outputs(tasks, destination)
    pending = [task for task in tasks if task.is_possible and not (destination.skip_existing and task.is_done)]
    reporter = _reporter(reporting, options, pending)
    with package_log(to_stderr=reporting.verbose and not reporting.json_lines):
        for folder, names in left_out(inputs).items():
            reporter.left_out(folder, names)
        if settings.server is None and pending:
            ensure_model(settings, is_silent=reporting.quiet or reporting.json_lines)
        with _transcriber(settings, reporter) as transcriber:
            return Batch(tasks, transcriber, options, reporter, destination.skip_existing, limits).run()


def _reject_local_flags(settings: Settings) -> None:
    """Raise `UsageError` for a flag that has no effect on a service."""
    for name in _LOCAL_SETTINGS if settings.server is not None else ():
        if settings.origins[name] == FLAG:
            hint = f"Omit it, or give --server {NO_SERVER} to use this machine."
            raise UsageError(f"--{name.replace('_', '-')} has no effect on the service {settings.server}", hint=hint)


@contextmanager
def _transcriber(settings: Settings, reporter: Reporter) -> Iterator[Transcriber]:
    """Yield what transcribes: this machine, or the service that the settings name."""
    if settings.server is None:
        yield AudioTranscriber(settings.model, settings=settings)
        return
    from cesar.cli.queue.remote import connect
    from cesar.cli.queue.transcribe_remote import RemoteTranscriber

    with connect(settings) as client:
        yield RemoteTranscriber(client, model=settings.chosen_model, on_sent=reporter.uploaded)


def _reporter(reporting: Reporting, options: TranscribeOptions, pending: list[FileTask]) -> Reporter:
    if reporting.json_lines:
        return JsonReporter()
    lines = LineReporter(is_quiet=reporting.quiet, is_verbose=reporting.verbose)
    if reporting.quiet or sys.stderr is None or not sys.stderr.isatty():
        return lines
    from cesar.cli.transcription.progress import BarReporter
    from cesar.cli.transcription.totals import OverallProgress

    paths = [(task.source.name, task.source.path) for task in pending]
    return BarReporter(lines, options, OverallProgress.of(paths))
