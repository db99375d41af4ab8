"""One child process with its pipes: start it, send to it, receive from it, kill it, say how it died."""

from __future__ import annotations

import queue
import signal
import subprocess
import sys
import threading
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from cesar.runner import messages
from cesar.runner.messages import EngineSpec, Event, Request

_LAST_LINES = 20
_ROOT = Path(__file__).resolve().parents[2]
# -P and -c keep the current folder off the module path: a user's own json.py or av.py must not be imported.
_COMMAND = (
    sys.executable,
    "-P",
    "-c",
    "import sys; sys.path.append(sys.argv[1]); from cesar.runner.child import main; main()",
    str(_ROOT),
)
# Linux kills a child when the *thread* that started it ends, so all are started by one that lives as long as we do.
_starter = ThreadPoolExecutor(1, thread_name_prefix="cesar-starter")


class Died(Exception):
    """The child is gone; the text says how."""

    def __init__(self, exit_code: int, last_words: str) -> None:
        super().__init__(_how(exit_code, last_words))
        self.was_killed = exit_code == -signal.SIGKILL


class Quiet(Exception):
    """The child is there but has said nothing for too long."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"nothing for {seconds:.0f} s")
        self.seconds = seconds


class ChildProcess:
    """A running child."""

    def __init__(self) -> None:
        self._process = _starter.submit(_start).result()
        self._events: queue.SimpleQueue[Event | None] = queue.SimpleQueue()
        self._last_lines: deque[str] = deque(maxlen=_LAST_LINES)
        self._listening = threading.Thread(target=self._listen_to_errors, daemon=True)
        self._listening.start()
        threading.Thread(target=self._listen, daemon=True).start()

    @property
    def is_running(self) -> bool:
        """Whether the child is still there."""
        return self._process.poll() is None

    def send(self, message: EngineSpec | Request) -> None:
        """Send a message; a child that is gone is noticed by `receive`."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(messages.dump(message))
            self._process.stdin.flush()
        except OSError:
            pass

    def receive(self, *, timeout_s: float) -> Event | None:
        """Give the next event, or None if there is none within the time. Raises `Died`."""
        try:
            event = self._events.get(timeout=timeout_s)
        except queue.Empty:
            return None
        if event is None:
            exit_code = self._process.wait()
            self._listening.join(timeout=1)
            raise Died(exit_code, "\n".join(self._last_lines))
        return event

    def kill(self) -> None:
        """End the child at once, and wait until it is gone."""
        self._process.kill()
        self._process.wait()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                self._events.put(messages.parse(line))
        self._events.put(None)

    def _listen_to_errors(self) -> None:
        assert self._process.stderr is not None
        with self._process.stderr as lines:
            for line in lines:
                self._last_lines.append(line.decode(errors="replace").rstrip())


def _start() -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        _COMMAND,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,  # Ctrl-C in a terminal goes to the parent alone
    )


def _how(exit_code: int, last_words: str) -> str:
    if exit_code < 0:
        try:
            return signal.Signals(-exit_code).name
        except ValueError:
            return f"signal {-exit_code}"
    last = next((line for line in reversed(last_words.splitlines()) if line.strip()), "")
    return f"exit code {exit_code}" + (f": {last.strip()}" if last else "")
