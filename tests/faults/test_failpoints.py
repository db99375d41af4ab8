"""Failpoints, the basis of most of these tests: a process that stops or dies at one has done nothing after it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from tests.faults.support import ROOT, is_stopped, wait_until

pytestmark = pytest.mark.slow

PASS_BY = """
import threading
from cesar.failpoints import failpoint

def work():
    failpoint("here")
    print("went on", flush=True)

working = threading.Thread(target=work)
working.start()
working.join()
"""


@pytest.mark.parametrize("action", ["kill", "stop"])
def test_a_thread_stops_at_its_failpoint(action, rounds):
    environ = os.environ | {"CESAR_FAILPOINT": f"here={action}"}
    for _ in range(rounds(20, 400)):
        command = [sys.executable, "-c", PASS_BY]
        with subprocess.Popen(command, cwd=ROOT, env=environ, stdout=subprocess.PIPE) as process:
            wait_until(lambda: is_stopped(process.pid) or process.poll() is not None)
            process.kill()
            assert process.communicate()[0] == b""
        assert process.returncode == -signal.SIGKILL
