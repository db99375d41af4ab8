"""With the network forbidden nothing touches it, neither parent nor child, and everything works that can."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.runner.support import JFK, write_script

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
EXIT_MODEL = 4

needs_proc = pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="looks at processes through /proc")

WATCH = """
import os, sys

def watch(event, arguments):
    if event.startswith("socket.") and event != "socket.gethostname":
        with open(os.environ["SOCKET_EVENTS"], "a") as log:
            log.write(f"{event} {arguments[1:]}\\n")

sys.addaudithook(watch)
"""
"""A start-up file for every Python process: writes down whatever is done with a socket, its making included."""

PROGRAM = """
import json, os, sys
from contextlib import suppress
from cesar import AudioTranscriber, TranscribeOptions
from tests.runner.support import recognisers

def sockets(pid):  # native code's too, which no audit event tells of
    found = []
    for name in os.listdir(f"/proc/{pid}/fd"):
        with suppress(OSError):  # that of the listing itself
            found.append(os.readlink(f"/proc/{pid}/fd/{name}"))
    return [name for name in found if name.startswith("socket:")]

own = sockets("self")
transcript = AudioTranscriber(sys.argv[1]).transcribe(sys.argv[2], TranscribeOptions(word_timestamps=True))
opened = [name for pid in ["self", *recognisers()] for name in sockets(pid) if name not in own]
json.dump([transcript.text, len(recognisers()), opened], sys.stdout)
"""

PATIENT_PROGRAM = """
import json, socket, sys, time
from cesar import AudioTranscriber

def tried():  # packets sent, or not sent for want of a way
    rows = [line.split() for line in open("/proc/net/snmp")]
    counts = {kind + name: int(count) for (kind, *names), (_, *values) in zip(rows[::2], rows[1::2])
              for name, count in zip(names, values)}
    return counts["Ip:OutRequests"] + counts["Ip:OutNoRoutes"]

begun = time.monotonic()
while time.monotonic() - begun < 20:  # the first report of onnxruntime 1.32 went out after nine seconds
    transcript = AudioTranscriber(sys.argv[1]).transcribe(sys.argv[2])
before = tried()
socket.socket().connect_ex(("192.0.2.1", 9))
json.dump([transcript.text, before, tried()], sys.stdout)
"""


@pytest.fixture
def environ(tmp_path):
    """An environment without network, without any model but those that came as packages, and with the watch."""
    (tmp_path / "watch").mkdir()
    (tmp_path / "watch" / "sitecustomize.py").write_text(WATCH)
    forbidden = ("CESAR_", "HF_", "HUGGINGFACE_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(forbidden)}
    return kept | {
        "PYTHONPATH": os.pathsep.join([str(tmp_path / "watch"), str(ROOT)]),
        "SOCKET_EVENTS": str(tmp_path / "events"),
        "CESAR_OFFLINE": "1",
        "CESAR_DATA_DIR": str(tmp_path / "data"),
        "XDG_CONFIG_HOME": str(tmp_path / "config"),
        "HOME": str(tmp_path / "home"),
    }


@pytest.fixture
def events(tmp_path):
    """Return the socket operations so far."""
    return lambda: (tmp_path / "events").read_text() if (tmp_path / "events").exists() else ""


def run(command, environ):
    return subprocess.run(command, env=environ, capture_output=True, text=True, timeout=120, check=False)


def transcribe(model, environ):
    """Transcribe in a program of its own: gives text, number of children, and the sockets that they opened."""
    done = run([sys.executable, "-c", PROGRAM, model, str(JFK)], environ)
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout)


def test_the_watch_sees_what_a_program_does_with_sockets(environ, events):
    """Else the tests below would say nothing."""
    assert run([sys.executable, "-c", "import socket; socket.socket().connect_ex(('127.0.0.1', 9))"], environ)
    assert "socket.connect (('127.0.0.1', 9),)" in events()


@needs_proc
def test_transcribing_opens_no_socket(environ, events, tmp_path):
    """Not even to this machine: parent and child talk through pipes."""
    text, children, opened = transcribe(write_script(tmp_path / "script.json"), environ)
    assert text
    assert (children, opened, events()) == (1, [], "")


@needs_proc
@pytest.mark.model
def test_transcribing_with_real_weights_opens_no_socket(environ, events):
    """From finding the weights, in a fresh data folder, to the transcript."""
    text, children, opened = transcribe("tiny.en", environ)
    assert "what you can do for your country" in text.lower()
    assert (children, opened, events()) == (1, [], "")


@needs_proc
@pytest.mark.model
def test_nothing_even_tries_to_reach_a_network(environ):
    """By the kernel's own count, where there is none at all: native libraries may send reports home after a while."""
    unshare = shutil.which("unshare")
    if not unshare or run([unshare, "--net", "true"], environ).returncode:
        pytest.skip("this system does not let us take the network away (unshare --net)")
    done = run([unshare, "--net", sys.executable, "-c", PATIENT_PROGRAM, "tiny.en", str(JFK)], environ)
    assert (done.returncode, done.stderr) == (0, "")
    text, tried, tried_by_hand = json.loads(done.stdout)
    assert "what you can do for your country" in text.lower()
    assert tried == 0
    assert tried_by_hand > 0, "the kernel counts"


def test_a_missing_model_is_an_error_and_not_fetched(environ, events):
    code = """
import sys
from cesar import AudioTranscriber, CesarError
try:
    AudioTranscriber("large-v3").transcribe(sys.argv[1])
except CesarError as error:
    print(error.code, error.hint)
"""
    done = run([sys.executable, "-c", code, str(JFK)], environ)
    assert done.stdout.startswith("model_not_installed ")
    assert "cesar models" in done.stdout
    assert events() == ""


def test_the_option_forbids_the_network_as_the_variable_does(environ, events):
    del environ["CESAR_OFFLINE"]
    done = run([sys.executable, "-m", "cesar", "transcribe", "--offline", str(JFK), "--model", "large-v3"], environ)
    assert done.returncode == EXIT_MODEL
    assert "large-v3" in done.stderr
    assert events() == ""
