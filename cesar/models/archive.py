"""A model in one file, for machines without a network: NAME.cesar-model.

It is a plain tar: manifest.json (name, revision, size and SHA-256 of every file), then the files. The reader trusts
nothing in it: only known names, only plain files, only the sizes that the manifest gives.
"""

from __future__ import annotations

import io
import json
import re
import shutil
import tarfile
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from cesar.errors import InputError, ModelCorrupt
from cesar.models.catalog import WEIGHTS, FileEntry
from cesar.models.locations import MODEL_FILES
from cesar.models.staging import writing_into

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

SUFFIX = ".cesar-model"
MANIFEST = "manifest.json"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""Valid names of models: they become names of folders."""
_FORMAT = 1
_MANIFEST_MAX_BYTES = 64 * 1024
_BLOCK_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Manifest:
    """The expected files of a model."""

    name: str
    revision: str
    files: Mapping[str, FileEntry]

    @property
    def size_bytes(self) -> int:
        """The size of all files together."""
        return sum(file.size or 0 for file in self.files.values())

    def to_json(self) -> str:
        """Return the manifest as JSON; `manifest_from_json` reads it."""
        files = {file: asdict(entry) for file, entry in self.files.items()}
        return json.dumps(
            {"cesar_model": _FORMAT, "name": self.name, "revision": self.revision, "files": files}, indent=1
        )


def manifest_from_json(text: str | bytes) -> Manifest:
    """Parse a manifest; raise ValueError if it is invalid in any detail."""
    data = json.loads(text)
    match data:
        case {"cesar_model": 1, "name": str(name), "revision": str(revision), "files": dict(files)}:
            pass
        case _:
            raise ValueError("it lacks the fields of a manifest")
    if not NAME.fullmatch(name) or WEIGHTS not in files or not set(files) <= set(MODEL_FILES):
        raise ValueError("no model has such a name or such files")
    return Manifest(name, revision, {file: _file_entry(entry) for file, entry in files.items()})


def _file_entry(data: Any) -> FileEntry:
    match data:
        case {"sha256": str(sha256), "size": int(size)} if re.fullmatch("[0-9a-f]{64}", sha256) and size >= 0:
            return FileEntry(sha256, size)
    raise ValueError("a file has no digest or size")


def require_name(name: str) -> None:
    """Raise `InputError` for an invalid name of a model."""
    if not NAME.fullmatch(name):
        raise InputError(
            f"a model can't be called {name!r}",
            hint="Rename its folder: up to 64 letters, digits, dots, hyphens and underscores.",
        )


def pack(folder: Path, manifest: Manifest, target: Path) -> None:
    """Write the model's folder to one file, atomically.

    Raises `DiskFull` or `OutputNotWritable`.
    """
    temporary = target.with_name(f".{target.name}.part")
    with writing_into(target.parent):
        try:
            with tarfile.open(temporary, "w") as tar:
                text = manifest.to_json().encode()
                tar.addfile(_member(MANIFEST, len(text)), io.BytesIO(text))
                for file in manifest.files:
                    with (folder / file).open("rb") as stream:
                        tar.addfile(_member(file, (folder / file).stat().st_size), stream)
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)


def _member(name: str, size: int) -> tarfile.TarInfo:
    # No owner and no time: the same model gives the same bytes.
    member = tarfile.TarInfo(name)
    member.size = size
    return member


@contextmanager
def opened(path: Path) -> Iterator[tuple[tarfile.TarFile, Manifest]]:
    """Open a model file and read its manifest; raise `InputError` if it is something else."""
    if not path.exists():
        raise InputError(f"there is no file or folder {path}", hint="Check the path.")
    try:
        tar = tarfile.open(path, "r:")  # noqa: SIM115 - closed below
    except (tarfile.TarError, OSError) as error:
        raise _not_a_model(path, "it is not a tar file") from error
    with tar:
        yield tar, _read_manifest(tar, path)


def extract(tar: tarfile.TarFile, manifest: Manifest, path: Path, folder: Path) -> None:
    """Write the files that follow the manifest into a folder.

    Raises `InputError` for a member that the manifest doesn't list, `ModelCorrupt` if the file ends too early.
    """
    try:
        while member := tar.next():
            _extract_member(tar, member, manifest, folder, path)
    except tarfile.TarError as error:
        raise ModelCorrupt(
            f"{path} is damaged: {error}", hint="It was truncated while being copied: copy it again from its source."
        ) from error


def _extract_member(
    tar: tarfile.TarFile, member: tarfile.TarInfo, manifest: Manifest, folder: Path, path: Path
) -> None:
    announced = manifest.files.get(member.name)
    is_plain = member.type in (tarfile.REGTYPE, tarfile.AREGTYPE)
    if announced is None or not is_plain or member.size != announced.size or (folder / member.name).exists():
        raise _not_a_model(path, f"{member.name!r} does not match its manifest")
    source = tar.extractfile(member)
    if source:
        with source, (folder / member.name).open("wb") as target:
            shutil.copyfileobj(source, target, _BLOCK_BYTES)


def _read_manifest(tar: tarfile.TarFile, path: Path) -> Manifest:
    try:
        member = tar.next()
        if member is None or member.name != MANIFEST or member.type != tarfile.REGTYPE:
            raise _not_a_model(path, f"{MANIFEST} does not come first")
        source = tar.extractfile(member)
        return manifest_from_json(source.read(_MANIFEST_MAX_BYTES) if source else b"")
    except (tarfile.TarError, ValueError) as error:
        raise _not_a_model(path, f"{MANIFEST} can't be used: {error}") from error


def _not_a_model(path: Path, why: str) -> InputError:
    return InputError(
        f"{path} is not a model file: {why}",
        hint="Use a file written by `cesar models export`, or the folder of a CTranslate2 Whisper model.",
    )
