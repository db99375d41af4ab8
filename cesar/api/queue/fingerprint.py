"""What makes checkpoints valid: the same recording, model, wishes and code. Otherwise work is done anew."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from functools import cache
from importlib.metadata import version
from pathlib import Path

import cesar
from cesar.errors import Interrupted
from cesar.options import TranscribeOptions
from cesar.runner.messages import EngineSpec

_BLOCK = 1 << 22
_LIBRARIES = ("av", "ctranslate2", "numpy", "onnxruntime", "tokenizers")
_CODE = ("pipeline", "engines", "assets", "formats/typography.py", "ledger.py", "transcript.py")
"""What makes chunks: folders, and files that these import for it."""


def fingerprint(
    recording: Path, engine: EngineSpec, options: TranscribeOptions, should_stop: Callable[[], bool] = bool
) -> str:
    """Give a SHA-256 that is the same when, and only when, a run would finish the very same chunks.

    Reads the whole recording. Raises OSError if it can't be read, `Interrupted` when `should_stop` says so.
    """
    return fingerprint_of(_audio_digest(recording, should_stop), engine, options)


def fingerprint_of(audio: str, engine: EngineSpec, options: TranscribeOptions) -> str:
    """Give the same for a recording whose SHA-256 is known. Raises OSError if a script can't be read."""
    model = {"name": engine.name, "revision": engine.revision, "digest": engine.digest or _digest(engine.directory)}
    how = {"device": engine.device, "compute_type": engine.compute_type}
    work = {"audio": audio, "model": model | how, "options": options.to_dict(), "code": _code_version()}
    return hashlib.sha256(json.dumps(work, sort_keys=True).encode()).hexdigest()


def _audio_digest(recording: Path, should_stop: Callable[[], bool]) -> str:
    digest = hashlib.sha256()
    with recording.open("rb", buffering=0) as file:
        while block := file.read(_BLOCK):
            digest.update(block)
            if should_stop():
                raise Interrupted("the work was stopped")
    return digest.hexdigest()


@cache
def _code_version() -> str:
    """A digest of all that turns sound into text: our own files, so that none is forgotten, and the libraries."""
    code = hashlib.sha256(json.dumps([(name, version(name)) for name in _LIBRARIES]).encode())
    package = Path(cesar.__file__).parent
    for path in sorted(path for part in _CODE for path in _files(package / part)):
        if "__pycache__" not in path.parts:
            code.update(path.relative_to(package).as_posix().encode() + b"\0" + path.read_bytes())
    return code.hexdigest()


def _files(part: Path) -> Iterator[Path]:
    return (path for path in (part, *part.rglob("*")) if path.is_file())


def _digest(script: str) -> str:
    return hashlib.sha256(Path(script).read_bytes()).hexdigest()
