import errno
import json
import signal

import click
import pytest

from cesar import errors
from cesar.cli.exits import EXIT_CODES, ExitStatus, Stopped, describe, exit_code, one_line, report_error


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.CesarError, 1),
        (errors.UnknownLanguage, 2),
        (errors.UnknownFormat, 2),
        (errors.NotMedia, 3),
        (errors.NoMediaInFolder, 3),
        (errors.DiskFull, 3),
        (errors.ModelNotInstalled, 4),
        (errors.DeviceUnavailable, 4),
        (errors.ChildKilled, 5),
        (errors.Interrupted, 130),
    ],
)
def test_an_error_has_the_exit_code_of_its_branch(error, code):
    assert exit_code(error("what happened")) == code


def test_every_branch_of_the_error_tree_has_an_exit_code():
    assert set(EXIT_CODES) == {errors.CesarError, *errors.CesarError.__subclasses__()}


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_has_its_own_exit_code(signum, code):
    interrupted = errors.Interrupted("interrupted")
    interrupted.__cause__ = Stopped(signum)
    assert exit_code(interrupted) == code
    assert describe(Stopped(signum)).code == code


def test_ctrl_c_is_130():
    assert describe(KeyboardInterrupt()).code == 130
    assert describe(click.Abort()).code == 130


def test_a_message_becomes_a_sentence_with_the_hint_after_it():
    end = describe(errors.NotMedia("a.mp3 is not media.", hint="Copy it again."))
    assert end.line == "cesar: a.mp3 is not media. Copy it again."


@pytest.mark.parametrize("nasty", ["a\nb", "a\r\nb", "\x1b[2Ja", "a\u2028b", "a\x00b", "a\udcffb"])
def test_any_message_becomes_one_printable_line(nasty, capsys):
    error = errors.RecordingNotFound(f"there is no file {nasty}")
    report_error(describe(error), error, as_json=False, with_traceback=False)
    output = capsys.readouterr().err
    assert len(output.splitlines()) == 1
    assert output.rstrip("\n").isprintable()
    assert one_line("größe 音") == "größe 音"


def test_an_unexpected_exception_is_reported_as_a_bug_with_a_traceback_on_request(capsys):
    try:
        raise KeyError("what")
    except KeyError as error:
        end = describe(error)
        report_error(end, error, as_json=False, with_traceback=False)
        short = capsys.readouterr().err
        report_error(end, error, as_json=False, with_traceback=True)
        long = capsys.readouterr().err
    assert end.code == 1
    assert short.startswith("cesar: internal error: KeyError: 'what'.")
    assert len(short.splitlines()) == 1
    assert "Traceback" in long
    assert long.endswith(short)


def test_a_users_mistake_never_has_a_traceback(capsys):
    error = errors.UsageError("wrong")
    report_error(describe(error), error, as_json=False, with_traceback=True)
    assert "Traceback" not in capsys.readouterr().err


def test_an_error_is_an_event_with_json_lines(capsys):
    error = errors.UnknownModel("no model x")
    report_error(describe(error), error, as_json=True, with_traceback=False)
    assert json.loads(capsys.readouterr().err) == {
        "event": "error",
        "code": "unknown_model",
        "message": "no model x",
        "hint": error.hint,
        "exit_code": 4,
    }


def test_a_closed_pipe_is_not_reported(capsys):
    end = describe(BrokenPipeError(errno.EPIPE, "Broken pipe"))
    report_error(end, BrokenPipeError(), as_json=False, with_traceback=True)
    assert end == ExitStatus(3)
    assert capsys.readouterr().err == ""


def test_a_full_disk_is_not_a_bug():
    end = describe(OSError(errno.ENOSPC, "No space left on device", "/x/y"))
    assert (end.code, end.error_code) == (3, "disk_full")
    assert "/x/y" in end.line
