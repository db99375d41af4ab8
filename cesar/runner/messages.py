"""The messages between parent and child: small frozen values, each one line of JSON.

The parent sends an `EngineSpec`, then one `Request` at a time. The child sends events; the last one for a request is
`Outcome` or `Failed`.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from cesar.errors import BY_CODE, CesarError
from cesar.options import TranscribeOptions
from cesar.pipeline.request import Outcome, Request
from cesar.transcript import Chunk, ModelIdentity, chunk_from_dict


@dataclass(frozen=True, slots=True)
class EngineSpec:
    """Which engine a child runs, and how. Identifies the child in the pool."""

    directory: str
    """Folder of the weights, or the script's path for the scripted engine."""
    name: str
    revision: str
    digest: str
    device: str = "auto"
    compute_type: str = "auto"
    workers: int | None = None
    scripted: bool = False
    niceness: int = 0
    """The niceness of the child, 0 to 19 (nice(2))."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """The engine is ready; the warnings say where it provides less than was requested."""

    model: ModelIdentity
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Opened:
    """The recording is open; `duration` in seconds according to its header, if stated."""

    duration: float | None


@dataclass(frozen=True, slots=True)
class Alive:
    """Work is in progress."""


@dataclass(frozen=True, slots=True)
class Worked:
    """Progress of the work, in seconds of the recording: see `Progress.worked`."""

    reached: float


@dataclass(frozen=True, slots=True)
class Finished:
    """A chunk was recognised."""

    chunk: Chunk


@dataclass(frozen=True, slots=True)
class Skipped:
    """A chunk was already done and is skipped."""

    start: float
    end: float


@dataclass(frozen=True, slots=True)
class Failed:
    """The work ended with an error; the child itself is intact."""

    code: str
    message: str
    hint: str
    details: str = ""
    """The traceback of a bug in Cesar, else empty."""

    def error(self) -> CesarError:
        """Return the error as the parent raises it."""
        error = BY_CODE[self.code](self.message, hint=self.hint)
        if self.details:
            error.add_note(self.details)
        return error


Event = Loaded | Opened | Alive | Worked | Finished | Skipped | Outcome | Failed
_BY_NAME: dict[str, type[Any]] = {
    kind.__name__: kind
    for kind in (EngineSpec, Request, Loaded, Opened, Alive, Worked, Finished, Skipped, Outcome, Failed)
}


def dump(message: EngineSpec | Request | Event) -> bytes:
    """Return the message as one line."""
    body = asdict(message)
    return json.dumps({"is": type(message).__name__, **body}, default=str).encode() + b"\n"


def parse(line: bytes) -> Any:
    """Return the message in a line written by `dump`. Raises ValueError if the line is not a complete message."""
    try:
        body = json.loads(line)
        kind = _BY_NAME[body["is"]]
        return kind(**{field.name: _typed(kind, field.name, body[field.name]) for field in fields(kind)})
    except (ValueError, LookupError, TypeError) as error:
        raise ValueError("not a message") from error


def _typed(kind: type[Any], name: str, value: Any) -> Any:
    if kind is Request:
        if name == "path":
            return Path(value)
        if name == "options":
            return TranscribeOptions(**value)
        return tuple((start, end) for start, end in value) if name == "done" else value
    if name == "chunk":
        return chunk_from_dict(value)
    if name == "model":
        return ModelIdentity(**value)
    return tuple(value) if name == "warnings" else value
