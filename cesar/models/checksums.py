"""SHA-256 of model files, and a cache, so that a big file is not hashed at every start.

The cache is <store>/verified.json; an entry is valid while the file's size and modification time stay the same.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cesar.files.private import make_folder

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

MEMORY = "verified.json"


def digest_of(pieces: Iterable[Path]) -> str:
    """Return the SHA-256, hexadecimal, of the concatenation of these files."""
    digest = hashlib.sha256()
    for piece in pieces:
        with piece.open("rb") as stream:
            hashlib.file_digest(stream, lambda: digest)
    return digest.hexdigest()


def remembered_digest(file: Path, store: Path) -> str:
    """Return the file's SHA-256: from the cache if the file is unchanged, otherwise by hashing it."""
    marks = _marks(file)  # before hashing, so that a file changed meanwhile does not count as verified
    known = _read(store).get(_key(file), {})
    if known.items() >= marks.items() and isinstance(known.get("sha256"), str):
        return str(known["sha256"])
    digest = digest_of([file])
    _write(store, {_key(file): {**marks, "sha256": digest}})
    return digest


def remember(digests: Mapping[Path, str], store: Path) -> None:
    """Cache digests that have just been computed, unless the store is not writable."""
    _write(store, {_key(file): {**_marks(file), "sha256": digest} for file, digest in digests.items()})


def _key(file: Path) -> str:
    return str(file.absolute())


def _marks(file: Path) -> dict[str, int]:
    state = file.stat()
    return {"size": state.st_size, "mtime_ns": state.st_mtime_ns}


def _read(store: Path) -> dict[str, dict[str, Any]]:
    with suppress(OSError, ValueError):
        memory = json.loads((store / MEMORY).read_text(encoding="utf-8"))
        if isinstance(memory, dict):
            return {file: known for file, known in memory.items() if isinstance(known, dict)}
    return {}


def _write(store: Path, updates: Mapping[str, dict[str, Any]]) -> None:
    memory = {file: known for file, known in _read(store).items() if Path(file).exists()} | dict(updates)
    with suppress(OSError):
        make_folder(store.parent)
        store.mkdir(exist_ok=True)  # models are not secret
        temporary = store / f".{MEMORY}.{os.getpid()}.{threading.get_ident()}"
        temporary.write_text(json.dumps(memory, indent=1), encoding="utf-8")
        temporary.replace(store / MEMORY)
