"""Hints for an option that does not exist: a similar one, another command's, or Cesar's equivalent.

Imported only when a command line is wrong.
"""

from __future__ import annotations

import re
from difflib import get_close_matches
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Iterator

_MIN_SIMILARITY = 0.75
"""Similarity of two names, 0 to 1, from which one is taken for a typo of the other."""

ADVICE = {
    "task": "Transcribing is the default; `--translate` gives English text.",
    "transcribe": "It is the default.",
    "output-format response-format format-name formats out-format": "Use `--format`, as in `-f srt,json`.",
    "output-txt txt text": "Use `-f txt`, which is the default.",
    "output-srt srt": "Use `-f srt`, or `-o FILE.srt`.",
    "output-vtt vtt": "Use `-f vtt`, or `-o FILE.vtt`.",
    "output-json output-json-full json pretty-json": "Use `-f json`, or `-o FILE.json`.",
    "output-csv output-tsv csv tsv": "Use `-f tsv`.",
    "output-lrc output-words lrc docx pdf html": "There is no such format yet; see `--format`.",
    "output-file out outfile save-to": "Use `--output`.",
    "outdir out-dir output-folder output-path dest destination": "Use `--output-dir`.",
    "file input inputs input-file audio audio-file path infile": "Give the recording as an argument, not an option.",
    "folder dir directory input-dir recursive": (
        "Give the folder as an argument; for folders inside it, let the shell list the files: `talks/*/*.mp3`."
    ),
    "url link address youtube": "A service fetches addresses: `cesar jobs submit ADDRESS --server URL`.",
    "stdin": "Name the recording `-` to read standard input.",
    "model-size model-name whisper-model model-path model-directory": "Use `--model`, with a name or a folder.",
    "model-dir download-root cache-dir model-cache": "Set CESAR_DATA_DIR; models are kept in `models` there.",
    "model-cache-only local-files-only no-download": "Use `--offline`.",
    "lang source-language source-lang src-lang spoken-language input-language": "Use `--language`.",
    "target-language target-lang tgt-lang output-language": "English is the only one: `--translate`.",
    "detect-language": "The language is detected unless `--language` names it; -f json has it.",
    "initial-prompt carry-initial-prompt style-prompt context": "Use `--prompt`; it goes before every chunk.",
    "hotword keywords vocabulary vocab keyterms phrases custom-vocabulary": "Use `--hotwords`.",
    "timestamps timestamp-granularities word-level-timestamps words token-timestamps dtw": (
        "Use `--word-timestamps` for words; those of sentences are in every format but txt."
    ),
    "no-timestamps without-timestamps": "Use `-f txt`, the default: it has none.",
    "offset offset-t clip-timestamps from": "Use `--start` and `--end`.",
    "duration until to limit-duration": "Use `--end`, counted from the start of the recording.",
    "best-of patience length-penalty repetition-penalty no-repeat-ngram-size beams num-beams": (
        "The search is set by `--beam-size` and `--temperature` alone."
    ),
    "sampling-temperature temp": "Use `--temperature`.",
    "temperature-increment-on-fallback compression-ratio-threshold logprob-threshold log-prob-threshold "
    "no-speech-threshold no-speech-thold entropy-thold logprob-thold word-thold no-fallback "
    "hallucination-silence-threshold condition-on-previous-text suppress-tokens suppress-blank suppress-numerals "
    "suppress-non-speech-tokens prompt-reset-on-temperature max-context multilingual": (
        "It can't be set: Cesar checks each text and retries what looks wrong, and no chunk depends on another."
    ),
    "fp16 half float16": "On a CPU int8 is the default; `--compute-type float16` is for a GPU.",
    "fp32 float32": "Use `--compute-type float32`.",
    "int8 quantize quantization dtype precision": "Use `--compute-type`; int8 is the default on a CPU.",
    "gpu cuda use-gpu": "Use `--device cuda`.",
    "cpu no-gpu": "Use `--device cpu`.",
    "device-index device-id gpu-id main-gpu": "Use `--device cuda`, and let CUDA_VISIBLE_DEVICES choose the GPU.",
    "threads num-threads cpu-threads processors num-workers workers batch-size batched flash-attn parallel": (
        "Cesar chooses by the cores and memory of the machine; CESAR_WORKERS sets the number of threads."
    ),
    "vad vad-filter vad-method vad-onset vad-offset vad-model vad-threshold vad-parameters chunk-size chunk-length "
    "vad-min-speech-duration-ms vad-max-speech-duration-s vad-min-silence-duration-ms vad-speech-pad-ms no-vad": (
        "It can't be set: speech is always detected, and its pauses decide where a recording is cut."
    ),
    "diarize diarization diarise tinydiarize diarize-model min-speakers max-speakers num-speakers speakers "
    "speaker-labels speaker-embeddings speaker-name hf-token speaker": ("Cesar can't identify speakers yet."),
    "align-model no-align interpolate-method return-char-alignments": (
        "There is no model for that; `--word-timestamps` finds the time of every word."
    ),
    "highlight-words print-colors print-special prepend-punctuations append-punctuations max-words-per-line "
    "segment-resolution sentence split-on-word": "There is no such option yet.",
    "max-line-width max-len line-length": "Use `--max-line-length`.",
    "max-line-count": "Use `--max-lines`.",
    "live-transcribe live stream streaming microphone mic": "Cesar takes recordings only, not live sound.",
    "print-progress progress verbose-output": "A terminal always shows it; `--json-lines` is for programs.",
    "no-prints silent no-progress hide-progress": "Use `--quiet`.",
    "debug log-level loglevel": "Use `--verbose`.",
    "overwrite force yes": "Existing texts are replaced; `--skip-existing` keeps them.",
    "resume continue no-clobber skip skip-done": "Use `--skip-existing`.",
    "api-key token key": "Set CESAR_API_KEY.",
    "api-base base-url endpoint remote host-url": "Use `--server`.",
    "bind listen interface": "Use `--host`.",
    "db": "Use `--database`.",
    "summary summarize summarise translate-to": "Cesar writes down what was said, and nothing about it.",
}
"""Advice by the option names of other programs (openai-whisper, whisper.cpp, whisper-ctranslate2, WhisperX, APIs)."""
NAMED = re.compile(r"(?<![A-Za-z0-9-])--?[a-z][a-z-]*")
"""An option named in a piece of advice."""
_ADVICE = {name: advice for names, advice in ADVICE.items() for name in names.split()}


def describe_option(error: click.NoSuchOption) -> tuple[str, str]:
    """Return the message for an option that does not exist, and a hint, which may be empty."""
    return f"there is no option {error.option_name}", suggestion(error.option_name, error.ctx)


def suggestion(name: str, context: click.Context | None) -> str:
    """Return a sentence that says what to use instead of an option; empty if nothing is similar."""
    mine = options_of(context.command, context) if context else set[str]()
    plain = _plain(name)
    if own := next((option for option in sorted(mine) if _plain(option) == plain and option.startswith("--")), None):
        return f"Write `{own}`."
    advice = _ADVICE.get(plain) or _ADVICE.get(plain.removeprefix("no-"), "")
    if advice and set(NAMED.findall(advice)) <= mine:
        return advice
    if near := get_close_matches(
        f"--{plain}", [option for option in mine if option.startswith("--")], 1, _MIN_SIMILARITY
    ):
        return f"Did you mean `{near[0]}`?"
    if context and (others := _commands_with(name, context)):
        return f"That is an option of {_join(others)}."
    return advice and f"For `cesar transcribe`: {advice[0].lower()}{advice[1:]}"


def _plain(option: str) -> str:
    return option.lstrip("-").lower().replace("_", "-")


def options_of(command: click.Command, context: click.Context) -> set[str]:
    """Return the names of a command's options."""
    return {name for param in command.get_params(context) if isinstance(param, click.Option) for name in param.opts}


def _commands_with(name: str, context: click.Context) -> list[str]:
    """Return the other commands that have the option."""
    root = context.find_root()
    found = [
        path
        for path, command in commands_below(root.command, root, "cesar")
        if path != context.command_path and name in options_of(command, root)
    ]
    nested = [path for path in found if path.startswith(f"{context.command_path} ")]
    return nested or found


def commands_below(command: click.Command, context: click.Context, path: str) -> Iterator[tuple[str, click.Command]]:
    """Yield a command and all its subcommands, each with its full name."""
    yield path, command
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            if child := command.get_command(context, name):
                yield from commands_below(child, context, f"{path} {name}")


def _join(names: list[str]) -> str:
    quoted = [f"`{name}`" for name in names]
    if len(quoted) > 4:
        return ", ".join(quoted[:4]) + " and others"
    return " and ".join([", ".join(quoted[:-1]), quoted[-1]] if len(quoted) > 1 else quoted)
