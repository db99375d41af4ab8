"""One child process with its pipes: start, send, receive, kill, and describe how it died."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import threading
from collections import deque
from contextlib import suppress
from functools import cache
from pathlib import Path

from cesar.pipeline.request import Request
from cesar.runner import messages
from cesar.runner.memory_limit import OUT_OF_MEMORY
from cesar.runner.messages import EngineSpec, Event

_TAIL_LINES = 20
_SIGKILL = 9  # the signal module has it only where there is one
_ROOT = Path(__file__).resolve().parents[2]
# The child runs the same package as its parent, whatever else is installed. The folder of that package comes last on
# the module path, so that nothing in it can shadow the standard library.
_BOOTSTRAP = """
import sys
from importlib.machinery import PathFinder
from importlib.util import module_from_spec
sys.path.append(sys.argv[1])
spec = PathFinder.find_spec("cesar", [sys.argv[1]])
cesar = sys.modules["cesar"] = module_from_spec(spec)
spec.loader.exec_module(cesar)
from cesar.runner.child import main
main()
"""
_MALLOC_ENVIRONMENT = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": str(2**28),
    "MALLOC_TRIM_THRESHOLD_": str(2**30),
}
"""For glibc's malloc, which reads them before `main`: one heap that keeps its memory. Inference allocates and frees the
same tens of megabytes repeatedly; otherwise they would go back to the system and return page by page."""
# -P and -c keep the current folder off the module path: a user's own json.py or av.py must not be imported.
_COMMAND = (sys.executable, "-P", "-c", _BOOTSTRAP, str(_ROOT))


Answers = queue.SimpleQueue[subprocess.Popen[bytes] | Exception]


class ChildDied(Exception):
    """The child has died; the message says how."""

    def __init__(self, exit_code: int, stderr_tail: str) -> None:
        super().__init__(_describe_exit(exit_code, stderr_tail))
        self.was_killed = exit_code == -_SIGKILL
        self.ran_out_of_memory = any(words in stderr_tail for words in OUT_OF_MEMORY)
        """It reached its memory limit in native code, which can only abort."""


class ChildOutOfMemory(Exception):
    """The child reached its memory limit and reported it."""


class ChildSilent(Exception):
    """The child is alive but has been silent for too long."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"nothing for {seconds:g} s")
        self.seconds = seconds


class ChildProcess:
    """A running child process. Raises OSError if it can't be started."""

    def __init__(self) -> None:
        self._process = _start()
        self._events: queue.SimpleQueue[Event | None] = queue.SimpleQueue()
        self._tail: deque[str] = deque(maxlen=_TAIL_LINES)
        self._stderr_reader = threading.Thread(target=self._read_stderr, daemon=True)
        self._stderr_reader.start()
        threading.Thread(target=self._read_events, daemon=True).start()

    @property
    def is_running(self) -> bool:
        """Whether the child is alive."""
        return self._process.poll() is None

    def send(self, message: EngineSpec | Request) -> None:
        """Send a message; `receive` notices a child that has died."""
        assert self._process.stdin is not None
        with suppress(OSError):
            self._process.stdin.write(messages.dump(message))
            self._process.stdin.flush()

    def receive(self, *, timeout_s: float) -> Event | None:
        """Return the next event, or None on timeout. Raises `ChildDied`."""
        was_running = self.is_running
        try:
            event = self._events.get(timeout=timeout_s)
        except queue.Empty:
            if was_running:
                return None
            event = None  # it is dead, but a process forked while it was being started may hold its pipe open
        if event is None:
            exit_code = self._process.wait()
            self._stderr_reader.join(timeout=1)
            raise ChildDied(exit_code, "\n".join(self._tail))
        return event

    def kill(self) -> None:
        """Kill the child, and wait until it has exited."""
        self._process.kill()
        self._process.wait()
        assert self._process.stdin is not None
        with suppress(OSError):  # a message may not have been read
            self._process.stdin.close()

    def _read_events(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                try:
                    self._events.put(messages.parse(line))
                except ValueError:  # cut off by the child's death, or printed by a startup file
                    self._tail.append(line.decode(errors="replace").rstrip())
        self._events.put(None)

    def _read_stderr(self) -> None:
        assert self._process.stderr is not None
        with self._process.stderr as lines:
            for line in lines:
                self._tail.append(line.decode(errors="replace").rstrip())


def _start() -> subprocess.Popen[bytes]:
    answer: Answers = queue.SimpleQueue()
    _starter().put(answer)
    started = answer.get()
    if isinstance(started, Exception):
        raise started
    return started


@cache
def _starter() -> queue.SimpleQueue[Answers]:
    """Return the request queue of a thread that starts processes and lives as long as this process.

    Linux kills a child when the *thread* that started it ends. It can't be an executor's: those end as soon as the
    main thread has, while the program's other threads may still be transcribing.
    """
    requests: queue.SimpleQueue[Answers] = queue.SimpleQueue()
    threading.Thread(target=_serve_start_requests, args=(requests,), name="cesar-starter", daemon=True).start()
    return requests


def _serve_start_requests(requests: queue.SimpleQueue[Answers]) -> None:
    while True:
        requests.get().put(_popen())


def _popen() -> subprocess.Popen[bytes] | Exception:
    try:
        return subprocess.Popen(
            _COMMAND,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=_MALLOC_ENVIRONMENT | os.environ,
            cwd=_ROOT.anchor,  # all paths in messages are absolute, and the current folder may be deleted
            start_new_session=True,  # Ctrl-C in a terminal goes to the parent alone
        )
    except Exception as error:  # noqa: BLE001 (it is raised again where the request came from)
        return error


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_starter.cache_clear)  # threads don't outlive a fork


def _describe_exit(exit_code: int, stderr_tail: str) -> str:
    if exit_code < 0:
        try:
            return signal.Signals(-exit_code).name
        except ValueError:
            return f"signal {-exit_code}"
    lines = [line.strip() for line in stderr_tail.splitlines() if line.strip()]
    informative = [line for line in lines if "Error" in line] or lines
    return f"exit code {exit_code}" + (f": {informative[-1]}" if informative else "")
