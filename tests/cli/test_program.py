"""Handling of arguments before any recording is opened; no test needs a model."""

import json
import os
import subprocess
import sys
from pathlib import Path

import click
import pytest

from cesar.cli import group
from cesar.cli.commands.completion import INSTALLATION
from cesar.cli.suggestions import commands_below

FULL = Path("/dev/full")
COMMANDS = dict(commands_below(group, click.Context(group, info_name="cesar"), "cesar"))


def make(folder, *names, content=b"not empty"):
    for name in names:
        (folder / name).write_bytes(content)


def test_version_imports_little_more_than_click(cesar):
    """Start-up time is the most frequent wait."""
    code = """
import sys
from cesar.cli import run
run(["--version"])
print(sorted({"numpy", "av", "rich", "ctranslate2", "onnxruntime", "tokenizers"} & {*sys.modules}))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    version, modules = done.stdout.splitlines()
    assert version.startswith("cesar ")
    assert modules == "[]"


def test_help_lists_every_command_and_exit_code(invoke):
    code, out, _ = invoke("--help")
    assert code == 0
    assert all(word in out for word in ("transcribe", "models", "doctor", "completion", "130"))


@pytest.mark.parametrize("path", COMMANDS)
def test_the_help_of_every_command_fits_80_columns_untruncated(path, invoke, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    _, out, _ = invoke(*path.split()[1:], "--help")
    lines = out.splitlines()
    assert [line for line in lines if len(line) > 80] == []
    assert [line for line in lines if line.endswith("...") and not line.startswith("Usage:")] == []


@pytest.mark.parametrize("arguments", [["transcribe"], ["models"], ["models", "pull"], ["doctor"], ["completion"]])
def test_every_command_has_help(arguments, invoke):
    code, out, _ = invoke(*arguments, "--help")
    assert code == 0
    assert out.startswith(f"Usage: cesar {' '.join(arguments)}")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["transcribe", "a.mp3", "--bogus"], "--bogus"),
        (["transcribe"], "INPUT"),
        (["transcribe", "a.mp3", "--beam-size", "many"], "many"),
        (["transcribe", "a.mp3", "--beam-size", "0"], "beam size"),
        (["transcribe", "a.mp3", "--device", "gpu"], "gpu"),
        (["transcribe", "a.mp3", "--start", "soon"], "soon"),
        (["transcribe", "a.mp3", "--start", "60", "--end", "1:00"], "end"),
        (["transcribe", "a.mp3", "-l", "klingon"], "klingon"),
        (["transcribe", "a.mp3", "-f", "docx"], "docx"),
        (["transcribe", "a.mp3", "-f", "txt,srt"], "2 formats"),
        (["transcribe", "a.mp3", "b.mp3", "-o", "a.txt"], "--output"),
        (["transcribe", "a.mp3", "-o", "a.txt", "-d", "out"], "both"),
        (["transcribe", "a.mp3", "-o", "a.mp3"], "overwritten"),
        (["transcribe", "a.mp3", "--skip-existing"], "--skip-existing"),
        (["transcribe", ""], "empty"),
        (["nonsense"], "nonsense"),
        (["a.mp3"], "cesar transcribe a.mp3"),
        (["completion", "tcsh"], "tcsh"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(arguments, expected, invoke, tmp_path):
    make(tmp_path, "a.mp3", "b.mp3")
    code, out, err = invoke(*arguments)
    assert code == 2
    assert out == ""
    [line] = err.splitlines()
    assert line.startswith("cesar: ")
    assert expected in line
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.mp3", "b.mp3"]


def test_an_unknown_option_points_to_the_commands_help(invoke):
    assert "See `cesar transcribe --help`." in invoke("transcribe", "a.mp3", "--bogus")[2]


def test_a_misspelt_command_gets_a_suggestion(invoke):
    assert "transcribe" in invoke("transcrib", "a.mp3")[2]


def test_cesar_without_arguments_shows_help_and_fails(invoke):
    code, out, err = invoke()
    assert code == 2
    assert out == ""
    assert err.startswith("Usage: cesar")


def test_an_invalid_setting_is_a_usage_error(invoke, monkeypatch, tmp_path):
    make(tmp_path, "a.mp3")
    monkeypatch.setenv("CESAR_DEVICE", "gpu")
    code, _, err = invoke("transcribe", "a.mp3")
    assert code == 2
    assert "(from CESAR_DEVICE)" in err


def test_wrong_usage_is_an_event_with_json_lines(invoke):
    code, _, err = invoke("transcribe", "--json-lines", "--bogus")
    event = json.loads(err)
    assert (event["event"], event["code"], event["exit_code"], code) == ("error", "bad_option", 2, 2)


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        (["-o", "none/a.txt"], "none"),
        (["-o", "folder"], "folder"),
        (["-d", "none/deeper"], "none"),
        (["-d", "a.mp3"], "a.mp3"),
        (["-o", f"{'x' * 300}.txt"], "xxx"),
    ],
)
def test_an_impossible_output_is_reported_before_any_work(output, expected, invoke, tmp_path):
    make(tmp_path, "a.mp3")
    (tmp_path / "folder").mkdir()
    code, _, err = invoke("transcribe", "a.mp3", *output)
    assert code == 3
    [line] = err.splitlines()
    assert expected in line
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.mp3", "folder"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_an_unwritable_folder_is_reported_before_any_work(invoke, tmp_path):
    make(tmp_path, "a.mp3")
    (tmp_path / "closed").mkdir(mode=0o500)
    code, _, err = invoke("transcribe", "a.mp3", "-d", "closed")
    assert code == 3
    assert "closed" in err


def test_a_closed_standard_output_is_reported_before_any_work(cesar, tmp_path):
    make(tmp_path, "a.mp3")
    done = cesar("transcribe", "a.mp3", stdout=None, stderr=subprocess.PIPE, preexec_fn=lambda: os.close(1))
    assert done.returncode == 3
    assert done.stderr == b"cesar: standard output is closed. Use --output or --output-dir.\n"


def test_a_closed_pipe_on_standard_output_ends_the_program_quietly(cesar):
    reader, writer = os.pipe()
    os.close(reader)
    done = cesar("completion", "fish", stdout=writer, stderr=subprocess.PIPE)
    os.close(writer)
    assert (done.returncode, done.stderr) == (3, b"")


@pytest.mark.slow
@pytest.mark.skipif(not FULL.exists(), reason="only Linux has a device that is always full")
def test_a_full_standard_output_is_reported(cesar):
    with FULL.open("wb") as full:
        done = cesar("models", "list", stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == 3
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("shell", INSTALLATION)
def test_the_completion_script_is_printed(shell, invoke):
    code, out, _ = invoke("completion", shell)
    assert code == 0
    assert "_CESAR_COMPLETE" in out


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        (["mod"], "models"),
        (["transcribe", "--model", "large-v3-t"], "large-v3-turbo"),
        (["transcribe", "--language", "de"], "de"),
        (["transcribe", "--format", "srt,v"], "srt,vtt"),
        (["models", "pull", "tiny."], "tiny.en"),
    ],
)
def test_a_shell_completes_commands_and_option_values(typed, offered, invoke, monkeypatch):
    monkeypatch.setenv("_CESAR_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", " ".join(["cesar", *typed]))
    monkeypatch.setenv("COMP_CWORD", str(len(typed)))
    _, out, _ = invoke()
    assert f"plain,{offered}" in out.splitlines()
