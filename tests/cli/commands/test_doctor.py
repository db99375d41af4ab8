import itertools
import re
import subprocess
import sys

import pytest

from cesar.api.models import JobStatus
from cesar.api.storage.migrate import HEAD
from cesar.cli.commands.doctor import NATIVE_LIBRARIES
from cesar.models.catalog import CATALOG

pytestmark = pytest.mark.slow


def finding(out, what):
    """Return the finding on a subject, its lines joined."""
    lines = iter(out.splitlines())
    first = next(line for line in lines if re.match(rf"(ok|note|MISSING) +{what}:( |$)", line))
    more = itertools.takewhile(lambda line: line.startswith(" "), lines)
    return " ".join([first, *map(str.strip, more)])


@pytest.fixture
def folder_as_model(tmp_path):
    """A folder with the files of a model that can't recognise anything."""
    folder = tmp_path / "model"
    folder.mkdir()
    for name in ("config.json", "tokenizer.json", "vocabulary.txt", "model.bin"):
        (folder / name).write_bytes(b"{}")
    return folder


def test_doctor_succeeds_with_libraries_and_model_installed(invoke, folder_as_model, monkeypatch):
    monkeypatch.setenv("CESAR_MODEL", str(folder_as_model))
    code, out, err = invoke("doctor")
    assert (code, err) == (0, "")
    assert all(finding(out, library).startswith("ok ") for library in NATIVE_LIBRARIES)
    assert str(folder_as_model) in finding(out, "model").replace(" ", "")  # a long path is wrapped
    assert "CESAR_MODEL" in out


def test_a_missing_model_is_reported_with_a_remedy(invoke, monkeypatch):
    missing = list(CATALOG)[-1]
    monkeypatch.setenv("CESAR_MODEL", missing)
    code, out, _ = invoke("doctor")
    assert code == 4
    assert "MISSING" in finding(out, "model")
    assert "cesar models pull" in finding(out, "model")


def test_an_invalid_setting_is_reported_and_the_other_checks_still_run(invoke, monkeypatch):
    monkeypatch.setenv("CESAR_DEVICE", "gpu")
    code, out, _ = invoke("doctor")
    assert code == 2
    assert "CESAR_DEVICE" in finding(out, "settings")
    assert finding(out, "numpy")


def test_a_crashing_library_is_reported_and_does_not_crash_doctor(cesar, folder_as_model, tmp_path, monkeypatch):
    (tmp_path / "broken").mkdir()
    crash = "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)"
    (tmp_path / "broken" / "onnxruntime.py").write_text(crash, encoding="utf-8")
    (tmp_path / "broken" / "av.py").write_text("raise ImportError('no libavcodec')", encoding="utf-8")
    monkeypatch.setenv("CESAR_MODEL", str(folder_as_model))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "broken"), prepend=":")
    done = cesar("doctor", text=True)
    assert done.returncode == 5
    assert "signal 11" in finding(done.stdout, "onnxruntime")
    assert "no libavcodec" in finding(done.stdout, "av")
    assert finding(done.stdout, "numpy").startswith("ok ")


def test_doctor_checks_the_database_and_counts_its_jobs(invoke, queue, folder_as_model, monkeypatch):
    monkeypatch.setenv("CESAR_MODEL", str(folder_as_model))
    for status in (JobStatus.QUEUED, JobStatus.QUEUED, JobStatus.ERROR):
        queue.add(status)
    code, out, _ = invoke("doctor")
    assert code == 0
    assert f"{queue.file}, schema {HEAD}, 2 queued, 1 error" in finding(out, "database")


def test_doctor_does_not_create_a_missing_database(invoke, queue):
    _, out, _ = invoke("doctor")
    assert "does not exist yet" in finding(out, "database")
    assert not queue.file.exists()


def test_doctor_finds_a_damaged_page_of_the_database(invoke, queue, folder_as_model, monkeypatch):
    monkeypatch.setenv("CESAR_MODEL", str(folder_as_model))
    queue.fill({f"job-{number}": "talk" * 50 for number in range(200)})
    content = bytearray(queue.file.read_bytes())
    page = content.rindex(b"talktalk") // 4096 * 4096
    content[page : page + 100] = b"\xaa" * 100
    queue.file.write_bytes(content)
    code, out, _ = invoke("doctor")
    assert code == 6
    assert "is damaged" in finding(out, "database")


def test_doctor_itself_imports_no_native_library(environ):
    code = f"""
import sys
from cesar.cli import run
run(["doctor"])
sys.exit(bool(set({NATIVE_LIBRARIES!r}) & set(sys.modules)))
"""
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)


def test_what_is_missing_comes_first_with_a_remedy_in_80_columns(invoke, monkeypatch):
    missing = list(CATALOG)[-1]
    monkeypatch.setenv("CESAR_MODEL", missing)
    monkeypatch.setenv("CESAR_DATABASE", "/dev/null/" + "deep/" * 30 + "cesar.db")
    _, out, _ = invoke("doctor")
    lines = out.splitlines()
    assert max(map(len, lines)) <= 80
    states = [line.split()[0] for line in lines if not line.startswith(" ")]
    assert states == sorted(states, key=["MISSING", "note", "ok"].index)
    assert lines[0].startswith("MISSING  model: ")
    assert f"cesar models pull {missing}" in finding(out, "model")


def test_changed_settings_are_listed_with_their_origins(invoke, monkeypatch):
    monkeypatch.setenv("CESAR_PORT", "5001")
    _, out, _ = invoke("doctor")
    assert "port = 5001 (CESAR_PORT)" in finding(out, "settings")
