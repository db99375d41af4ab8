"""The whole program and its files: which database owns recordings, who may read them, and damage."""

from __future__ import annotations

import random
import shutil
import signal
import sqlite3
import stat
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from tests.acceptance.conftest import PROGRAM, Program
from tests.acceptance.service import Service, serving
from tests.faults.support import wait_until
from tests.support import media

pytestmark = pytest.mark.slow

SPEECH = media.AUDIO / "jfk.m4a"
PAGE = 4096


def recordings(program: Program) -> list[bytes]:
    return sorted(path.read_bytes() for path in (program.folder / "data/audio").glob("??/*"))


def stop(service: Service) -> None:
    service.send(signal.SIGTERM)
    assert service.wait() == 0, service.log.read_text()


def refused(service: Service, *options: object) -> str:
    """Try to start the service; return the one line that it says."""
    done = service.program.run("serve", "--port", 0, *options)
    assert done.returncode == 6, done.stderr
    [line] = done.stderr.splitlines()
    return line


def test_another_database_never_deletes_a_recording(program):
    with serving(program, "--no-worker") as service:
        jobs = [service.submit(SPEECH)["id"]]
        stop(service)
        kept, data = recordings(program), program.folder / "data"
        line = refused(service, "--database", program.folder / "other.db")
        assert str(data / "audio") in line
        assert not (program.folder / "other.db").exists()
        away = (data / "cesar.db").rename(program.folder / "away.db")
        assert "does not exist" in refused(service)
        assert not (data / "cesar.db").exists()
        for command in (["jobs", "submit", SPEECH], ["jobs", "list"], ["jobs", "show", jobs[0]]):
            done = service.program.run(*command)
            assert (done.returncode, "does not exist" in done.stderr) == (6, True), done.stderr
        shutil.copy(away, data / "cesar.db")
        service.start()
        assert service.job(jobs[0])["status"] == "queued"
        assert recordings(program) == kept


def test_an_older_copy_of_the_database_keeps_newer_recordings(program):
    with serving(program, "--no-worker") as service:
        service.submit(SPEECH)
        stop(service)
        database = program.folder / "data/cesar.db"
        copy = shutil.copy(database, program.folder / "yesterday.db")
        service.start()
        newer = program.folder / "newer.m4a"
        newer.write_bytes(SPEECH.read_bytes() + b"newer")
        service.submit(newer)
        stop(service)
        shutil.copy(copy, database)
        for _ in range(2):
            service.start()
            assert recordings(program) == sorted([SPEECH.read_bytes(), newer.read_bytes()])
            wait_until(lambda: "1 recordings in" in service.log.read_text())
            stop(service)


def test_an_administrator_may_give_the_recordings_to_another_database(program):
    with serving(program, "--no-worker") as service:
        service.submit(SPEECH)
        stop(service)
        other = program.folder / "other.db"
        done = service.program.run("doctor", "--adopt-recordings", "--database", other)
        assert done.returncode == 0, done.stderr
        assert "1 recordings" in done.stderr
        again = replace(service, options=("--no-worker", "--database", other))
        again.start()
        assert recordings(program) == [SPEECH.read_bytes()]
        stop(again)
        assert "other.db" in refused(service)


@pytest.mark.parametrize("umask", ["000", "022", "077", "177", "777"])
def test_other_users_can_read_nothing_whatever_the_umask(program, umask):
    open_to_all = ("sh", "-c", f'umask {umask}; exec "$0" "$@"')
    data = program.folder / "data"
    with serving(program) as service:
        stop(service)
        shutil.rmtree(data)
        environ = dict(service.program.environ)
        for arguments in (["jobs", "submit", SPEECH], ["worker", "--until-empty"], ["keys", "create", "ann"]):
            done = program.run(*arguments, launcher=open_to_all, environ=environ)
            assert done.returncode == 0, done.stderr
        modes = modes_in(data)
        wrapper = program.folder / "serve.sh"
        wrapper.write_text(f'#!/bin/sh\numask {umask}\nexec "{PROGRAM}" "$@"\n')
        wrapper.chmod(0o700)
        service.start(wrapper)
        job = service.submit(SPEECH)
        service.result(job["id"])
        modes |= modes_in(data)
        stop(service)
    loose = {str(path): oct(mode) for path, mode in (modes | modes_in(data)).items() if mode & 0o077}
    assert loose == {}
    assert modes[data] == 0o700


def test_a_data_folder_of_an_earlier_version_is_made_private(program):
    data = program.folder / "data"
    with serving(program, "--no-worker") as service:
        service.submit(SPEECH)
        stop(service)
        for path in (data, *data.rglob("*")):
            if not path.is_symlink():
                path.chmod(0o755 if path.is_dir() else 0o644)
        service.start()
        assert service.client.get("/readyz").status_code == 200
        assert {mode & 0o077 for mode in modes_in(data).values()} == {0}
        assert "is private now" in service.log.read_text()


def test_a_folder_with_other_files_keeps_its_mode(program):
    data = program.folder / "data"
    data.mkdir(mode=0o755)
    (data / "notes.txt").write_text("ours, together")
    with serving(program, "--no-worker") as service:
        service.submit(SPEECH)
        modes = modes_in(data)
        assert modes.pop(data) == 0o755
        modes.pop(data / "notes.txt")
        assert {mode & 0o077 for mode in modes.values()} == {0}


def modes_in(folder: Path) -> dict[Path, int]:
    found = {}
    for path in (folder, *folder.rglob("*")):
        try:
            status = path.lstat()
        except FileNotFoundError:
            continue
        if not stat.S_ISLNK(status.st_mode):
            found[path] = stat.S_IMODE(status.st_mode)
    return found


def test_a_locked_database_is_reported_and_requests_fail_soon(program):
    with serving(program, "--no-worker") as service:
        kept = service.submit(SPEECH)
        with closing(sqlite3.connect(program.folder / "data/cesar.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            wait_until(lambda: service.client.get("/readyz").status_code == 503)
            assert service.client.get("/health").status_code == 503
            assert service.client.get("/livez").status_code == 200
            begun = time.monotonic()
            answer = service.client.post("/transcribe", files={"file": ("talk.m4a", SPEECH.read_bytes())})
            assert (answer.status_code, answer.json()["code"]) == (503, "database_unavailable")
            assert int(answer.headers["Retry-After"]) > 0
            assert time.monotonic() - begun < 60
            other.execute("ROLLBACK")
        wait_until(lambda: service.client.get("/readyz").status_code == 200)
        assert service.job(kept["id"])["status"] == "queued"
        service.submit(SPEECH)


def test_a_damaged_database_is_noticed_and_repaired_without_losing_recordings(program):
    with serving(program, "--no-worker") as service:
        jobs = [service.submit(SPEECH, priority=number % 10)["id"] for number in range(40)]
        stop(service)
        file = program.folder / "data/cesar.db"
        content = bytearray(file.read_bytes())
        chance = random.Random(7)
        for number in chance.sample(range(1, len(content) // PAGE), len(content) // PAGE // 3):
            content[number * PAGE : (number + 1) * PAGE] = chance.randbytes(PAGE)
        file.write_bytes(content)
        line = refused(service)
        assert "cesar doctor --repair" in line
        done = service.program.run("doctor", "--repair")
        assert done.returncode == 0, done.stderr
        [kept] = file.parent.glob("cesar.db.damaged-*")
        assert kept.read_bytes() == content
        assert recordings(program) == [SPEECH.read_bytes()]
        service.start()
        found = {job["id"] for job in service.client.get("/jobs", params={"limit": 100}).json()["jobs"]}
        assert found
        assert found <= set(jobs)
        assert service.client.get("/readyz").status_code == 200
        assert service.submit(SPEECH)["id"] not in jobs
        assert recordings(program) == [SPEECH.read_bytes()]
