"""One child process with its pipes: start it, send to it, receive from it, kill it, say how it died."""

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

_LAST_LINES = 20
_SIGKILL = 9  # the signal module has it only where there is one
_ROOT = Path(__file__).resolve().parents[2]
# The child runs the very package that its parent runs, whatever else is installed; yet what lies beside that package
# comes last on the module path, so that it can't stand in for the standard library.
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
_STEADY_HEAP = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": str(2**28),
    "MALLOC_TRIM_THRESHOLD_": str(2**30),
}
"""For GNU's malloc, which reads them before `main`: one heap that keeps its memory. Inference allocates and frees the
same tens of megabytes all the time; otherwise they would go back to the system, and return page by page."""
# -P and -c keep the current folder off the module path: a user's own json.py or av.py must not be imported.
_COMMAND = (sys.executable, "-P", "-c", _BOOTSTRAP, str(_ROOT))


Answers = queue.SimpleQueue[subprocess.Popen[bytes] | Exception]


class Died(Exception):
    """The child has died; the message says how."""

    def __init__(self, exit_code: int, last_words: str) -> None:
        super().__init__(_how(exit_code, last_words))
        self.was_killed = exit_code == -_SIGKILL
        self.had_no_memory = any(words in last_words for words in OUT_OF_MEMORY)
        """It reached its memory limit in native code, which can only abort."""


class Exhausted(Exception):
    """The child reached its memory limit, and could say so."""


class Quiet(Exception):
    """The child is alive but has been silent for too long."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"nothing for {seconds:g} s")
        self.seconds = seconds


class ChildProcess:
    """A running child process. Raises OSError if it can't be started."""

    def __init__(self) -> None:
        self._process = _start()
        self._events: queue.SimpleQueue[Event | None] = queue.SimpleQueue()
        self._last_lines: deque[str] = deque(maxlen=_LAST_LINES)
        self._listening = threading.Thread(target=self._listen_to_errors, daemon=True)
        self._listening.start()
        threading.Thread(target=self._listen, daemon=True).start()

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
        """Return the next event, or None on timeout. Raises `Died`."""
        was_running = self.is_running
        try:
            event = self._events.get(timeout=timeout_s)
        except queue.Empty:
            if was_running:
                return None
            event = None  # dead, though another process may hold its pipe open: one forked as the child was started
        if event is None:
            exit_code = self._process.wait()
            self._listening.join(timeout=1)
            raise Died(exit_code, "\n".join(self._last_lines))
        return event

    def kill(self) -> None:
        """Kill the child, and wait until it has exited."""
        self._process.kill()
        self._process.wait()
        assert self._process.stdin is not None
        with suppress(OSError):  # a message may not have been taken
            self._process.stdin.close()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                try:
                    self._events.put(messages.parse(line))
                except ValueError:  # cut off by the child's death, or printed by a start-up file
                    self._last_lines.append(line.decode(errors="replace").rstrip())
        self._events.put(None)

    def _listen_to_errors(self) -> None:
        assert self._process.stderr is not None
        with self._process.stderr as lines:
            for line in lines:
                self._last_lines.append(line.decode(errors="replace").rstrip())


def _start() -> subprocess.Popen[bytes]:
    answer: Answers = queue.SimpleQueue()
    _starter().put(answer)
    started = answer.get()
    if isinstance(started, Exception):
        raise started
    return started


@cache
def _starter() -> queue.SimpleQueue[Answers]:
    """Return the queue of a thread that starts processes and lives as long as we do.

    Linux kills a child when the *thread* that started it ends. It can't be an executor's: those end as soon as the
    main thread has, while the program's other threads may still be transcribing.
    """
    orders: queue.SimpleQueue[Answers] = queue.SimpleQueue()
    threading.Thread(target=_take_orders, args=(orders,), name="cesar-starter", daemon=True).start()
    return orders


def _take_orders(orders: queue.SimpleQueue[Answers]) -> None:
    while True:
        orders.get().put(_popen())


def _popen() -> subprocess.Popen[bytes] | Exception:
    try:
        return subprocess.Popen(
            _COMMAND,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=_STEADY_HEAP | os.environ,
            cwd=_ROOT.anchor,  # all paths that travel are absolute, and ours may be deleted meanwhile
            start_new_session=True,  # Ctrl-C in a terminal goes to the parent alone
        )
    except Exception as error:  # noqa: BLE001 (whatever it is, it is raised where the order came from)
        return error


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_starter.cache_clear)  # threads don't outlive a fork


def _how(exit_code: int, last_words: str) -> str:
    if exit_code < 0:
        try:
            return signal.Signals(-exit_code).name
        except ValueError:
            return f"signal {-exit_code}"
    lines = [line.strip() for line in last_words.splitlines() if line.strip()]
    telling = [line for line in lines if "Error" in line] or lines
    return f"exit code {exit_code}" + (f": {telling[-1]}" if telling else "")
