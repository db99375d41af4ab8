"""Messages for options that do not exist."""

import click
import pytest

from cesar.cli import group
from cesar.cli.suggestions import ADVICE, NAMED, commands_below, options_of

ROOT = click.Context(group, info_name="cesar")
COMMANDS = dict(commands_below(group, ROOT, "cesar"))
OWN = {path: options_of(command, ROOT) for path, command in COMMANDS.items()}


@pytest.fixture
def hint(invoke):
    def of(*arguments):
        code, out, err = invoke(*arguments)
        assert (code, out) == (2, "")
        [line] = err.splitlines()
        return line

    return of


@pytest.mark.parametrize(
    ("option", "told"),
    [
        ("--diarize", "can't identify speakers yet"),
        ("--min_speakers", "can't identify speakers yet"),
        ("--task", "`--translate`"),
        ("--output_format", "`--format`"),
        ("--output-format", "`--format`"),
        ("--output_dir", "Write `--output-dir`"),
        ("--word_timestamps", "Write `--word-timestamps`"),
        ("--beam_size", "Write `--beam-size`"),
        ("--model_size", "`--model`"),
        ("--fp16", "`--compute-type float16`"),
        ("--initial_prompt", "`--prompt`"),
        ("--vad_filter", "always detected"),
        ("--best_of", "`--beam-size`"),
        ("--condition_on_previous_text", "can't be set"),
        ("--threads", "CESAR_WORKERS"),
        ("--output-srt", "`-f srt`"),
        ("--offset-t", "`--start`"),
        ("--no-gpu", "`--device cpu`"),
        ("--local_files_only", "`--offline`"),
        ("--response_format", "`--format`"),
        ("--max_line_width", "`--max-line-length`"),
        ("--max_line_count", "`--max-lines`"),
        ("--hf_token", "identify speakers"),
        ("--LANG", "`--language`"),
    ],
)
def test_an_option_of_another_program_gets_cesars_equivalent(option, told, hint):
    line = hint("transcribe", option, "x", "a.mp3")
    assert line.startswith(f"cesar: there is no option {option}. ")
    assert told in line
    assert line.endswith("See `cesar transcribe --help`.")


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        (["transcribe", "--langauge", "de"], "--language"),
        (["transcribe", "--skip-exist"], "--skip-existing"),
        (["transcribe", "--qiet"], "--quiet"),
        (["jobs", "list", "--limt", "3"], "--limit"),
        (["serve", "--prot", "1"], "--port"),
    ],
)
def test_a_misspelt_option_gets_the_closest_one(arguments, meant, hint):
    assert f"Did you mean `{meant}`?" in hint(*arguments)


def test_an_unknown_option_without_a_close_match_gets_no_suggestion(hint):
    assert hint("transcribe", "--xyzzy", "a.mp3") == (
        "cesar: there is no option --xyzzy. See `cesar transcribe --help`."
    )


def test_an_option_of_another_command_is_suggested_with_that_command(hint):
    assert "That is an option of `cesar transcribe`." in hint("jobs", "submit", "--output-dir", "x", "a.mp3")
    assert "`cesar serve`" in hint("worker", "--model", "small")
    assert "`cesar transcribe`" in hint("--model", "small", "transcribe", "a.mp3")


def test_advice_names_only_options_of_this_command(hint):
    assert "For `cesar transcribe`: use `--format`" in hint("jobs", "submit", "--output_format", "srt", "a.mp3")


def test_every_option_named_in_advice_exists():
    everywhere = set().union(*OWN.values())
    for advice in ADVICE.values():
        assert set(NAMED.findall(advice)) <= everywhere, advice


def test_no_name_has_two_pieces_of_advice_or_is_an_option_of_transcribe():
    names = [name for together in ADVICE for name in together.split()]
    assert len(set(names)) == len(names)
    assert not {f"--{name}" for name in names} & OWN["cesar transcribe"]
