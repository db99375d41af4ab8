"""`cesar transcribe`: its options, and the steps from them to a run."""

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
    """What was given on the command line; None or False: not given."""

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
"""Click would look for itself whether it may be read, and call that wrong usage."""


@click.command("transcribe")
@click.argument("inputs", metavar="INPUT...", nargs=-1, required=True, type=click.Path(readable=False))
@click.option("-o", "--output", metavar="FILE", type=WRITABLE_PATH, help="Write the text to FILE.")
@click.option(
    "-d",
    "--output-dir",
    metavar="DIR",
    type=WRITABLE_PATH,
    help="Write each text to DIR, made if missing, named after its recording.",
)
@click.option(
    "-f",
    "--format",
    "formats",
    metavar="NAMES",
    multiple=True,
    shell_complete=complete_format,
    help="txt, srt, vtt, json, tsv, md; several with commas. [default: by FILE's ending, else txt]",
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
    help="The language spoken. [default: detected]",
)
@click.option("--languages", metavar="CODES", help="What the language may be, with commas: en,nl.")
@click.option("--translate", is_flag=True, help="Give English text whatever is spoken.")
@click.option("--prompt", metavar="TEXT", help="Text in the style to follow: names, spelling, punctuation.")
@click.option("--hotwords", metavar="TEXT", help="Words to expect, with blanks or commas between them.")
@click.option("--word-timestamps", is_flag=True, help="Find the time of every word: listed in json, used for cues.")
@click.option(
    "--track", metavar="N|all", callback=read_track, help="The audio track, of several. [default: the one with speech]"
)
@click.option("--start", metavar="TIME", callback=read_time, help="Where to begin: seconds, or [HH:]MM:SS.")
@click.option("--end", metavar="TIME", callback=read_time, help="Where to stop.")
@click.option("--beam-size", metavar="N", type=int, help="Hypotheses kept; more is slower. [default: 1]")
@click.option(
    "--temperature", metavar="T", type=float, help="Draw tokens, 0 to 1, instead of the likeliest. [default: 0]"
)
@subtitle_options
@click.option("--device", type=click.Choice(DEVICES), help="Where to run. [default: auto]")
@click.option(
    "--compute-type",
    type=click.Choice(COMPUTE_TYPES),
    metavar="TYPE",
    help=f"Numbers to compute with: {', '.join(COMPUTE_TYPES)}. [default: auto]",
)
@click.option("--offline", is_flag=True, help="Never use the network.")
@server_option
@click.option("--skip-existing", is_flag=True, help="Leave out recordings whose texts are all there already.")
@click.option("-q", "--quiet", is_flag=True, help="Say nothing but errors.")
@click.option("-v", "--verbose", is_flag=True, help="Say more, and show tracebacks of internal errors.")
@click.option("--json-lines", is_flag=True, help="Write events to standard error, one JSON object a line.")
def command(**given: Any) -> int:
    """Transcribe files, folders, or - for standard input.

    A folder stands for the media files directly in it.

    Without -o or -d the text goes to standard output; of several recordings, each under a line
    `== NAME ==` (but for JSON: there, one document follows the other).

    -o with several formats replaces FILE's ending by each format's own. -d names each text after its
    recording, and keeps the recording's ending where two would share a name: a.mp3.txt, a.wav.txt.
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
        raise UsageError("--skip-existing needs --output or --output-dir", hint="Say where the texts are.")
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
                hint = f"Leave it out, or give --server {NO_SERVER} to work on this machine."
                raise UsageError(f"--{name.replace('_', '-')} says nothing to the service {settings.server}", hint=hint)
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
