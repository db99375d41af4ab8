"""Scripts for the scripted engine, and inspection of the child processes that run them."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cesar import Transcript

AUDIO = Path(__file__).parents[1] / "audio"
SONNET = AUDIO / "sonnet-1.mp3"
"""53 s of speech: several chunks."""
JFK = AUDIO / "jfk.m4a"
"""11 s of speech: one chunk."""
JFK_S = 11.005
IN_THE_MIDDLE = 25.0
"""A time in the sonnet that is in neither its first nor its last chunk."""


def write_script(path: Path, *faults: dict[str, Any]) -> str:
    """Write a script with a sentence every two seconds; return the name of the model."""
    segments = [{"start": at + 0.2, "end": at + 1.8, "text": f"{_word(at)} {_word(-at)}."} for at in range(0, 240, 2)]
    path.write_text(json.dumps({"language": "en", "segments": segments, "faults": faults}), encoding="utf-8")
    return f"scripted:{path}"


def plain(transcript: Transcript) -> str:
    """Return the whole transcript except its timings, which always differ."""
    return json.dumps({key: value for key, value in transcript.to_dict().items() if key not in ("timings", "origin")})


def recognisers(parent: int | None = None) -> set[int]:
    """Return the running children of a process; by default, of this one."""
    found = set()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            state, ppid = (folder / "stat").read_text().rpartition(")")[2].split()[:2]
            is_recogniser = b"cesar.runner.child" in (folder / "cmdline").read_bytes()
        except OSError:  # it has just exited
            continue
        if is_recogniser and int(ppid) == (parent or os.getpid()) and state not in "ZX":
            found.add(int(folder.name))
    return found


def is_running(pid: int) -> bool:
    """Return whether a process exists and is not a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def wait_until(condition: Callable[[], object], *, within_s: float = 60.0) -> float:
    """Wait for a condition and return the seconds it took. Raises AssertionError on timeout."""
    begun = time.monotonic()
    while not condition():
        assert time.monotonic() - begun < within_s, "it did not happen in time"
        time.sleep(0.005)
    return time.monotonic() - begun


def _word(number: int) -> str:
    """Return words that don't look like repeated text."""
    return hashlib.sha256(str(number).encode()).hexdigest()[:8]
