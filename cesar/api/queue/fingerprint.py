"""What keeps checkpoints valid: the same recording, model, options and code. Otherwise the work starts over."""

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
"""The code that produces chunks: folders, and the files that they import."""


def fingerprint(
    recording: Path, engine: EngineSpec, options: TranscribeOptions, should_stop: Callable[[], bool] = bool
) -> str:
    """Return a SHA-256 that is the same if, and only if, a run would produce exactly the same chunks.

    Reads the whole recording. Raises OSError if it can't be read, and `Interrupted` once `should_stop` returns true.
    """
    return fingerprint_of(_audio_digest(recording, should_stop), engine, options)


def fingerprint_of(audio: str, engine: EngineSpec, options: TranscribeOptions) -> str:
    """Return the fingerprint for a recording whose SHA-256 is known. Raises OSError if a script can't be read."""
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
    """Return a digest of everything that turns audio into text: all our own files of it, and the libraries."""
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
