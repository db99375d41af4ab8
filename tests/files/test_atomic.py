"""Atomic writes on a real file system."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from cesar.errors import DiskFull, OutputError, OutputNotWritable
from cesar.files.atomic import write_whole


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def run_python(code: str, *arguments: str | Path, stdout: int | None = None) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([sys.executable, "-c", code, *map(str, arguments)], stdout=stdout, check=True)


def test_text_is_written_as_utf_8_with_plain_newlines(tmp_path: Path) -> None:
    write_whole(tmp_path / "a.txt", "Grüße\n日本\n")
    assert (tmp_path / "a.txt").read_bytes() == b"Gr\xc3\xbc\xc3\x9fe\n\xe6\x97\xa5\xe6\x9c\xac\n"


def test_nothing_but_the_file_is_left_behind(tmp_path: Path) -> None:
    write_whole(tmp_path / "a.txt", "one\n")
    write_whole(tmp_path / "a.txt", "two\n")
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]
    assert (tmp_path / "a.txt").read_text() == "two\n"


def test_a_new_file_gets_the_permissions_of_any_new_file(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_whole(tmp_path / "a.txt", "one\n")
    finally:
        os.umask(before)
    assert mode_of(tmp_path / "a.txt") == 0o640


@pytest.mark.parametrize("mode", [0o600, 0o664, 0o755])
def test_a_replaced_file_keeps_its_permissions(tmp_path: Path, mode: int) -> None:
    (tmp_path / "a.txt").touch()
    (tmp_path / "a.txt").chmod(mode)
    write_whole(tmp_path / "a.txt", "one\n")
    assert mode_of(tmp_path / "a.txt") == mode


@pytest.mark.parametrize("target", ["there/a.txt", "missing.txt"])
def test_a_link_stays_and_what_it_points_to_is_written(tmp_path: Path, target: str) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "a.txt").write_text("old\n")
    (tmp_path / "link.txt").symlink_to(target)
    write_whole(tmp_path / "link.txt", "new\n")
    assert (tmp_path / "link.txt").readlink() == Path(target)
    assert not (tmp_path / target).is_symlink()
    assert (tmp_path / target).read_text() == "new\n"


def test_a_relative_path_is_written_in_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_whole(Path("a.txt"), "one\n")
    assert (tmp_path / "a.txt").read_text() == "one\n"


def test_text_with_lone_surrogates_is_still_written(tmp_path: Path) -> None:
    """A lone surrogate stands for a byte of a file name that is not UTF-8; in JSON, its escape is correct."""
    write_whole(tmp_path / "a.json", '"caf\udce9"\n')
    assert (tmp_path / "a.json").read_text() == '"caf\\udce9"\n'


def test_the_error_names_a_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(OutputNotWritable, match="there is no folder") as caught:
        write_whole(tmp_path / "missing" / "a.txt", "one\n")
    assert str(tmp_path / "missing") in caught.value.message
    assert "Create the folder" in caught.value.hint


def test_the_error_names_the_missing_folder_of_a_links_target(tmp_path: Path) -> None:
    (tmp_path / "link.txt").symlink_to("missing/a.txt")
    with pytest.raises(OutputNotWritable, match=r"no folder .*missing$"):
        write_whole(tmp_path / "link.txt", "one\n")


def test_a_folder_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "a.txt").mkdir()
    with pytest.raises(OutputNotWritable, match="is a folder"):
        write_whole(tmp_path / "a.txt", "one\n")
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]
    assert (tmp_path / "a.txt").is_dir()


def test_a_name_may_be_as_long_as_the_file_system_allows_and_no_longer(tmp_path: Path) -> None:
    write_whole(tmp_path / ("a" * 251 + ".txt"), "one\n")
    with pytest.raises(OutputNotWritable, match="name too long"):
        write_whole(tmp_path / ("b" * 252 + ".txt"), "one\n")
    assert [path.name[0] for path in tmp_path.iterdir()] == ["a"]


def test_a_file_where_the_folder_should_be_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputNotWritable, match="not a directory"):
        write_whole(tmp_path / "file" / "a.txt", "one\n")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_file_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("old\n")
    (tmp_path / "a.txt").chmod(0o444)
    with pytest.raises(OutputNotWritable, match="permission denied"):
        write_whole(tmp_path / "a.txt", "new\n")
    tmp_path.chmod(0o555)
    with pytest.raises(OutputNotWritable, match="permission denied"):
        write_whole(tmp_path / "b.txt", "new\n")
    tmp_path.chmod(0o755)
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("a.txt", "old\n")]


def test_a_full_disk_is_reported_as_such() -> None:
    with pytest.raises(DiskFull, match="no space is left to write /dev/full"):
        write_whole(Path("/dev/full"), "one\n")


def test_a_write_that_fails_halfway_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("old\n")
    code = """
import resource, sys
from pathlib import Path
from cesar.errors import OutputNotWritable
from cesar.files.atomic import write_whole
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    write_whole(Path(sys.argv[1]), "new\\n" * 1000)
except OutputNotWritable as error:
    assert "file too large" in error.message
else:
    raise SystemExit("it was written")
"""
    run_python(code, tmp_path / "a.txt")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("a.txt", "old\n")]


def test_a_reader_never_sees_half_a_file(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    versions = ["a" * 300_000, "b" * 200_000]
    write_whole(path, versions[0])
    is_done = threading.Event()
    seen: set[str] = set()

    def read() -> None:
        while not is_done.is_set():
            seen.add(path.read_text())

    reader = threading.Thread(target=read)
    reader.start()
    for number in range(40):
        write_whole(path, versions[number % 2])
    is_done.set()
    reader.join()
    assert seen <= set(versions)
    assert seen


def test_a_device_is_written_to_and_not_replaced() -> None:
    write_whole(Path("/dev/null"), "one\n")
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)


def test_a_pipe_is_written_to_and_not_replaced(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    received: list[str] = []
    reader = threading.Thread(target=lambda: received.append(pipe.read_text()))
    reader.start()
    write_whole(pipe, "one\n")
    reader.join()
    assert received == ["one\n"]
    assert pipe.is_fifo()


@pytest.mark.parametrize("stream", ["/dev/stdout", "/dev/fd/1"])
def test_standard_output_redirected_to_a_file_is_appended_to(tmp_path: Path, stream: str) -> None:
    """Output of the shell and other programs must not be lost."""
    log = tmp_path / "log.txt"
    log.write_text("before\n")
    code = "import sys, pathlib, cesar.files.atomic as o; o.write_whole(pathlib.Path(sys.argv[1]), 'text\\n')"
    with log.open("ab") as file:
        run_python(code, stream, stdout=file.fileno())
        file.write(b"after\n")
    assert log.read_text() == "before\ntext\nafter\n"


def test_standard_output_to_a_pipe_is_written_to() -> None:
    code = "import pathlib, cesar.files.atomic as o; o.write_whole(pathlib.Path('/dev/stdout'), 'text\\n')"
    assert run_python(code, stdout=subprocess.PIPE).stdout == b"text\n"


@pytest.mark.parametrize("path", ["/proc/cesar.txt", "/sys/cesar.txt"])
def test_a_location_that_accepts_no_files_is_an_output_error(path: str) -> None:
    with pytest.raises(OutputError):
        write_whole(Path(path), "one\n")
