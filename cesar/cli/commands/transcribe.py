"""`cesar transcribe`: its options, and the steps from options to a run."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cesar.cli.params import complete_format, complete_language, complete_model, read_time, read_track, server_option
from cesar.cli.queue.backend import NO_SERVER
from cesar.cli.queue.submit_options import requested_model
from cesar.cli.server.logs import package_log
from cesar.cli.transcription.batch import Batch
from cesar.cli.transcription.inputs import expand, left_out
from cesar.cli.transcription.model_download import ensure_model
from cesar.cli.transcription.outputs import choose_destination, plan_outputs
from cesar.cli.transcription.reporters import JsonReporter, LineReporter
from cesar.cli.transcription.subtitle_options import read_subtitle_options, subtitle_options
from cesar.cli.transcription.writing import prepare_outputs
from cesar.errors import UsageError
from cesar.options import Track, TranscribeOptions
from cesar.settings.config import Settings, load
from cesar.settings.validation import COMPUTE_TYPES, DEVICES
from cesar.transcriber import AudioTranscriber

if TYPE_CHECKING:
    from cesar.cli.transcription.outputs import FileTask
    from cesar.cli.transcription.reporters import Reporter
    from cesar.formats.subtitles.cues import SubtitleOptions


@dataclass(frozen=True, slots=True)
class Arguments:
    """The arguments of the command line; None or False means not given."""

    inputs: tuple[str, ...]
    output: Path | None
    output_dir: Path | None
    formats: tuple[str, ...]
    model: str | None
    language: str | None
    languages: str | None
    translate: bool
    prompt: str | None
    hotwords: str | None
    word_timestamps: bool
    track: Track | None
    start: float | None
    end: float | None
    beam_size: int | None
    temperature: float | None
    max_line_length: int | None
    max_lines: int | None
    max_cue_duration: float | None
    device: str | None
    compute_type: str | None
    offline: bool
    server: str | None
    skip_existing: bool
    quiet: bool
    verbose: bool
    json_lines: bool


WRITABLE_PATH = click.Path(readable=False, path_type=Path)
"""Without click's own check of read access, which it reports as wrong usage."""


@click.command("transcribe")
@click.argument("inputs", metavar="INPUT...", nargs=-1, required=True, type=click.Path(readable=False))
@click.option("-o", "--output", metavar="FILE", type=WRITABLE_PATH, help="Write the text to FILE.")
@click.option(
    "-d",
    "--output-dir",
    metavar="DIR",
    type=WRITABLE_PATH,
    help="Write each text to DIR, named after its recording. DIR is created if missing.",
)
@click.option(
    "-f",
    "--format",
    "formats",
    metavar="NAMES",
    multiple=True,
    shell_complete=complete_format,
    help="txt, srt, vtt, json, tsv, md, separated by commas. [default: by FILE's extension, else txt]",
)
@click.option(
    "-m",
    "--model",
    metavar="NAME|DIR",
    shell_complete=complete_model,
    help="The model; see `cesar models list`. [default: base]",
)
@click.option(
    "-l",
    "--language",
    metavar="CODE",
    shell_complete=complete_language,
    help="The spoken language. [default: detected]",
)
@click.option("--languages", metavar="CODES", help="Candidate languages, separated by commas: en,nl.")
@click.option("--translate", is_flag=True, help="Translate into English.")
@click.option("--prompt", metavar="TEXT", help="Text in the style to follow: names, spelling, punctuation.")
@click.option("--hotwords", metavar="TEXT", help="Expected words, separated by spaces or commas.")
@click.option("--word-timestamps", is_flag=True, help="Time every word: listed in json, used for cues.")
@click.option(
    "--track",
    metavar="N|all",
    callback=read_track,
    help="The audio track to transcribe. [default: the one with speech]",
)
@click.option("--start", metavar="TIME", callback=read_time, help="Start time: seconds, or [HH:]MM:SS.")
@click.option("--end", metavar="TIME", callback=read_time, help="End time.")
@click.option("--beam-size", metavar="N", type=int, help="Hypotheses kept; more is slower. [default: 1]")
@click.option(
    "--temperature",
    metavar="T",
    type=float,
    help="Sample tokens, 0 to 1, instead of taking the likeliest. [default: 0]",
)
@subtitle_options
@click.option("--device", type=click.Choice(DEVICES), help="The device to run on. [default: auto]")
@click.option(
    "--compute-type",
    type=click.Choice(COMPUTE_TYPES),
    metavar="TYPE",
    help=f"Precision: {', '.join(COMPUTE_TYPES)}. [default: auto]",
)
@click.option("--offline", is_flag=True, help="Never use the network.")
@server_option
@click.option("--skip-existing", is_flag=True, help="Skip recordings whose texts all exist.")
@click.option("-q", "--quiet", is_flag=True, help="Print errors only.")
@click.option("-v", "--verbose", is_flag=True, help="Print more, including tracebacks of internal errors.")
@click.option("--json-lines", is_flag=True, help="Write events to standard error, one JSON object per line.")
def command(**given: Any) -> int:
    """Transcribe files, folders, or - for standard input.

    A folder stands for the media files directly in it.

    Without -o or -d the text goes to standard output. If there are several recordings, each text follows a
    line `== NAME ==`, except in JSON, where one document follows the other.

    -o with several formats replaces FILE's extension with that of each format. -d names each text after its
    recording, and keeps the recording's extension where two would share a name: a.mp3.txt, a.wav.txt.
    Text from standard input is named stdin.
    """
    arguments = Arguments(**given)
    settings = _settings(arguments)
    options = _options(arguments)
    destination = choose_destination(arguments.output, arguments.output_dir, arguments.formats)
    subtitles = read_subtitle_options(
        destination.formats,
        max_line_length=arguments.max_line_length,
        max_lines=arguments.max_lines,
        max_cue_duration=arguments.max_cue_duration,
    )
    if arguments.skip_existing and destination.is_stdout:
        raise UsageError(
            "--skip-existing needs --output or --output-dir", hint="Give the file or folder that has the texts."
        )
    tasks = plan_outputs(expand(arguments.inputs), destination)
    prepare_outputs(tasks, destination)
    with package_log(to_stderr=arguments.verbose and not arguments.json_lines):
        return _run(tasks, arguments, settings, options, subtitles)


def _settings(arguments: Arguments) -> Settings:
    local_only = {
        "device": arguments.device,
        "compute_type": arguments.compute_type,
        "offline": arguments.offline or None,
    }
    settings = load({**local_only, "model": arguments.model, "server": arguments.server})
    if settings.server is not None:
        for name, value in local_only.items():
            if value is not None:
                hint = f"Omit it, or give --server {NO_SERVER} to use this machine."
                raise UsageError(
                    f"--{name.replace('_', '-')} has no effect on the service {settings.server}", hint=hint
                )
    return settings


def _options(arguments: Arguments) -> TranscribeOptions:
    given: dict[str, Any] = {
        "language": arguments.language,
        "languages": arguments.languages,
        "task": "translate" if arguments.translate else None,
        "prompt": arguments.prompt,
        "hotwords": arguments.hotwords,
        "word_timestamps": arguments.word_timestamps or None,
        "track": arguments.track,
        "start": arguments.start,
        "end": arguments.end,
        "beam_size": arguments.beam_size,
        "temperature": arguments.temperature,
    }
    return TranscribeOptions(**{name: value for name, value in given.items() if value is not None})


def _run(
    tasks: list[FileTask],
    arguments: Arguments,
    settings: Settings,
    options: TranscribeOptions,
    subtitles: SubtitleOptions,
) -> int:
    skip_existing, reporter = arguments.skip_existing, _reporter(tasks, arguments, options)
    for folder, names in left_out(arguments.inputs).items():
        reporter.left_out(folder, names)
    if settings.server is not None:
        from cesar.cli.queue.remote import connect
        from cesar.cli.queue.transcribe_remote import RemoteTranscriber

        with connect(settings) as client:
            remote = RemoteTranscriber(client, model=requested_model(settings), on_sent=reporter.uploaded)
            return Batch(tasks, remote, options, reporter, skip_existing, subtitles).run()
    if any(_needs_work(task, arguments) for task in tasks):
        ensure_model(settings, is_silent=arguments.quiet or arguments.json_lines)
    transcriber = AudioTranscriber(settings.model, settings=settings)
    return Batch(tasks, transcriber, options, reporter, skip_existing, subtitles).run()


def _reporter(tasks: list[FileTask], arguments: Arguments, options: TranscribeOptions) -> Reporter:
    if arguments.json_lines:
        return JsonReporter()
    lines = LineReporter(is_quiet=arguments.quiet, is_verbose=arguments.verbose)
    if arguments.quiet or sys.stderr is None or not sys.stderr.isatty():
        return lines
    from cesar.cli.transcription.progress import BarReporter
    from cesar.cli.transcription.totals import OverallProgress

    wanted = [task.source for task in tasks if _needs_work(task, arguments)]
    return BarReporter(lines, options, OverallProgress.of((source.name, source.path) for source in wanted))


def _needs_work(task: FileTask, arguments: Arguments) -> bool:
    is_possible = task.source.problem is None and task.problem is None
    return is_possible and not (arguments.skip_existing and task.is_done)
