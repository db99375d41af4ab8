"""The library in other people's programs: scripts, notebooks, threads, forks; killed, interrupted, or just ending.

Every program here is a process of its own, and whatever becomes of it, no recogniser outlives it.
"""

import os
import shutil
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import cesar
from tests.runner.support import IN_THE_MIDDLE, JFK, SONNET, is_running, recognisers, wait_until, write_script

ROOT = Path(__file__).parents[2]
HEAVY = ("av", "ctranslate2", "huggingface_hub", "numpy", "onnxruntime", "tokenizers")
AT_ONCE_S = 1.0

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks at processes through /proc"),
]

PREAMBLE = f"""
import os, signal, sys, threading
from cesar import AudioTranscriber, TranscribeOptions
from tests.runner.support import recognisers
JFK, SONNET = {str(JFK)!r}, {str(SONNET)!r}
BEGINNING = TranscribeOptions(language="en", end=5.0)
transcriber = AudioTranscriber(os.environ["MODEL"])
"""
"""A program that is to say more than one thing to the test imports the tests' own view of processes."""


@pytest.fixture
def environ(tmp_path):
    return {**os.environ, "PYTHONPATH": str(ROOT), "MODEL": write_script(tmp_path / "script.json")}


@pytest.fixture
def hanging(tmp_path, environ):
    """The environment of a program whose model never comes past the middle of the sonnet."""
    return environ | {"MODEL": write_script(tmp_path / "hanging.json", {"at": IN_THE_MIDDLE, "do": "hang"})}


@pytest.fixture
def start(tmp_path):
    """Start a Python program in a session of its own, and see to it that none is left."""
    started = []

    def run(code, environ):
        command = [sys.executable, "-c", PREAMBLE + textwrap.dedent(code)]
        pipe = subprocess.PIPE
        program = subprocess.Popen(
            command, env=environ, cwd=tmp_path, stdout=pipe, stderr=pipe, text=True, start_new_session=True
        )
        started.append(program)
        return program

    yield run
    for program in started:
        program.kill()
        program.communicate()


def finish(program):
    """Return what the program printed, once it has exited successfully."""
    out, err = program.communicate(timeout=60)
    assert (program.returncode, err) == (0, "")
    return out.split()


SCRIPT = """
import os, sys
from cesar import AudioTranscriber
for segment in AudioTranscriber(os.environ["MODEL"]).stream(os.environ["RECORDING"]):
    print(segment.text)
"""
AS_NOTEBOOK = f"""
import code
cells = code.InteractiveInterpreter()
assert "__file__" not in cells.locals
for cell in {SCRIPT!r}.strip().split("\\n", 2):
    cells.runsource(cell + "\\n", symbol="exec")
"""


@pytest.mark.parametrize("way", ["file", "standard input", "notebook"])
def test_a_program_needs_no_main_guard(way, environ, tmp_path):
    """The child does not import the program again."""
    (tmp_path / "script.py").write_text(SCRIPT)
    arguments, text = {
        "file": (["script.py"], ""),
        "standard input": (["-"], SCRIPT),
        "notebook": (["-c", AS_NOTEBOOK], ""),
    }[way]
    done = subprocess.run(
        [sys.executable, *arguments],
        input=text,
        env=environ | {"RECORDING": str(JFK)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("\n") == 6


def test_the_parent_imports_nothing_heavy_and_its_child_ends_with_it(start, environ):
    program = start(
        f"""
        assert transcriber.transcribe(JFK, BEGINNING).segments
        print(*recognisers(), *{set(HEAVY)} & {{*sys.modules}})
        """,
        environ,
    )
    [child] = finish(program)
    assert not is_running(int(child))


def test_importing_the_library_imports_little(environ):
    """Start-up time is a feature: of other people's packages one, and nothing slow of Python's own."""
    code = """
import sys
before = {*sys.modules}
import cesar
print(*sorted({*sys.modules} - before))
from cesar import *
print(*sorted({*sys.modules} - before))
"""
    done = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=True)
    bare, used = (line.split() for line in done.stdout.splitlines())
    assert [name for name in bare if name.startswith("cesar")] == ["cesar"]
    packages = {name.partition(".")[0] for name in used} - sys.stdlib_module_names
    assert packages == {"cesar", "platformdirs"}
    slow = {"asyncio", "concurrent", "email", "http", "logging", "multiprocessing", "socket", "sqlite3", "ssl", "xml"}
    assert not slow & {name.partition(".")[0] for name in used}


def test_the_current_folder_is_not_searched_for_modules(environ, tmp_path):
    """A recording may lie beside anything; what is there must not run in the child."""
    folder = tmp_path / "folder"
    folder.mkdir()
    for name in ("av", "cesar", "ctypes", "json", "numpy", "onnxruntime", "signal", "sitecustomize", "typing"):
        (folder / f"{name}.py").write_text(f"open('{name}-was-imported', 'w')\nraise SystemExit")
    done = subprocess.run(
        [sys.executable, "-P", "-c", SCRIPT],
        env=environ | {"RECORDING": str(JFK)},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert not list(folder.glob("*-was-imported"))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout


def test_the_child_runs_the_same_package_as_its_parent(environ, tmp_path):
    """Not another installed one; and files beside it do not shadow Python's own modules."""
    shutil.copytree(Path(cesar.__file__).parent, tmp_path / "copy" / "cesar")
    engine = tmp_path / "copy" / "cesar" / "engines" / "scripted.py"
    engine.write_text(engine.read_text().replace('ModelIdentity("scripted"', 'ModelIdentity("copied"'))
    (tmp_path / "copy" / "json.py").write_text("raise SystemExit")
    code = f"""
import os, sys
import json
sys.path.insert(0, {str(tmp_path / "copy")!r})
from cesar import AudioTranscriber
print(AudioTranscriber(os.environ["MODEL"]).transcribe({str(JFK)!r}).model.name)
"""
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], env=environ, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "copied"


def test_a_thread_may_keep_transcribing_after_the_main_thread_has_ended(start, environ):
    program = start(
        """
        def work():
            print(transcriber.transcribe(JFK, BEGINNING).duration > 0)
        threading.Thread(target=work).start()
        """,
        environ,
    )
    assert finish(program) == ["True"]


def test_a_fork_gets_a_child_of_its_own(start, environ):
    """Threads don't outlive a fork, and locks that they hold are never let go; the first child stays the parent's."""
    program = start(
        """
        import warnings
        warnings.simplefilter("ignore", DeprecationWarning)  # newer Pythons warn of any fork beside threads
        found, is_at_work = [], threading.Event()
        thread = threading.Thread(
            target=lambda: found.extend(transcriber.transcribe(SONNET, on_chunk=lambda _: is_at_work.set()).segments)
        )
        thread.start()
        is_at_work.wait()
        mine = recognisers()
        forked = os.fork()
        if not forked:
            segments = transcriber.transcribe(JFK, BEGINNING).segments
            os._exit(0 if segments and len(recognisers()) == 1 else 1)
        _, status = os.waitpid(forked, 0)
        thread.join()
        print(status, len(found), recognisers() == mine)
        """,
        environ,
    )
    status, found, is_same = finish(program)
    assert (status, is_same) == ("0", "True")
    assert int(found) > 20


@pytest.mark.parametrize(
    "work",
    [
        "stream = transcriber.stream(SONNET); next(stream)",
        "threading.Thread(target=lambda: [*transcriber.stream(SONNET)], daemon=True).start()",
    ],
    ids=["a stream is left open", "a daemon thread is at work"],
)
def test_a_program_exits_when_it_wants_to_whatever_is_running(start, hanging, work):
    program = start(
        f"""
        import time
        {work}
        while not recognisers():
            time.sleep(0.01)
        print(*recognisers())
        """,
        hanging,
    )
    [child] = finish(program)
    wait_until(lambda: not is_running(int(child)), within_s=AT_ONCE_S)


def begin(program):
    """Wait until a program that prints when its first chunk is finished does so; gives its child."""
    assert program.stdout.readline() == "begun\n"
    [child] = recognisers(program.pid)
    return child


TRANSCRIBE = "transcriber.transcribe(SONNET, on_chunk=lambda chunk: print('begun', flush=True))"


@pytest.mark.parametrize("state", ["hanging", "stopped"])
def test_a_child_is_gone_at_once_when_its_parent_is_killed(start, hanging, state):
    """Even one that can't run a line of code, as in a long native call: then only the system can end it."""
    program = start(TRANSCRIBE, hanging)
    child = begin(program)
    if state == "stopped":
        os.kill(child, signal.SIGSTOP)
    program.kill()
    assert wait_until(lambda: not is_running(child), within_s=AT_ONCE_S) < AT_ONCE_S


def test_an_idle_child_is_gone_at_once_when_its_parent_is_killed(start, environ):
    program = start(
        """
        transcriber.transcribe(JFK, BEGINNING)
        print("begun", flush=True)
        signal.pause()
        """,
        environ,
    )
    child = begin(program)
    program.kill()
    wait_until(lambda: not is_running(child), within_s=AT_ONCE_S)


def test_a_child_that_is_just_starting_is_gone_at_once_when_its_parent_is_killed(start, environ):
    """It watches for that before it imports anything big."""
    program = start("transcriber.transcribe(SONNET)", environ)
    wait_until(lambda: recognisers(program.pid))
    [child] = recognisers(program.pid)
    program.kill()
    wait_until(lambda: not is_running(child), within_s=AT_ONCE_S)


def test_control_c_ends_a_program_at_once_and_leaves_no_child(start, hanging):
    """A terminal sends it to the whole group of processes."""
    program = start(TRANSCRIBE, hanging)
    child = begin(program)
    os.killpg(program.pid, signal.SIGINT)
    wait_until(lambda: program.poll() is not None, within_s=AT_ONCE_S)
    assert program.returncode == -signal.SIGINT
    assert not is_running(child)
    assert program.stderr.read().splitlines()[-1] == "KeyboardInterrupt"


def test_control_c_in_a_notebook_ends_the_child_and_the_next_cell_works(start, hanging):
    program = start(
        f"""
        try:
            {TRANSCRIBE}
        except KeyboardInterrupt:
            print(*recognisers(), bool(transcriber.transcribe(JFK, BEGINNING).segments))
        """,
        hanging,
    )
    child = begin(program)
    program.send_signal(signal.SIGINT)
    assert finish(program)[-1] == "True"
    assert not is_running(child)
