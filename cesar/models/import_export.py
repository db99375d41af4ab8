"""Models that come from elsewhere into the store, by file or by folder, and the list of what they must be."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cesar.errors import ModelCorrupt
from cesar.models.archive import MANIFEST, Manifest, require_name
from cesar.models.catalog import FileEntry
from cesar.models.checksums import remembered_digest
from cesar.models.locations import Copy, folder_copy
from cesar.models.staging import join, locked, require_room
from cesar.models.verified import take_in

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from cesar.models.catalog import ModelEntry
    from cesar.models.verified import InstalledModel


def manifest_of(model: InstalledModel, store: Path) -> Manifest:
    """List what each of the model's files is."""
    files = {
        file: FileEntry(remembered_digest(path, store), path.stat().st_size)
        for file, (path,) in folder_copy(model.directory).pieces.items()
    }
    return Manifest(model.name, model.revision, files)


def copy_files(source: Path, manifest: Manifest, folder: Path) -> None:
    """Copy the files that the manifest lists."""
    for file in manifest.files:
        join([source / file], folder / file)


def bring_in(
    manifest: Manifest,
    fill: Callable[[Path], None],
    *,
    path: Path,
    store: Path,
    entry: ModelEntry | None,
) -> None:
    """Put a model into the store under its manifest's name, instead of one that was there.

    fill: writes the files into the folder that it is given; path: where they come from, for messages;
    entry: the catalog's of that name. Raises `InputError` for a name that no model may have, `ModelCorrupt`,
    `DiskFull` and `OutputNotWritable`; the store is then as it was.
    """
    name = manifest.name
    require_name(name)
    origin = Copy("store", store / name, {}, manifest.revision, str(path), "Copy it again from its source.")
    if entry:
        _require_same(manifest, entry, origin)

    def fill_all(folder: Path) -> None:
        fill(folder)
        (folder / MANIFEST).write_text(manifest.to_json(), encoding="utf-8")

    with locked(store, name):
        require_room(store, manifest.size_bytes)
        take_in(fill_all, origin, manifest.files, store)


def _require_same(manifest: Manifest, entry: ModelEntry, origin: Copy) -> None:
    for file, known in entry.files.items():
        announced = manifest.files.get(file)
        if announced is None or known.sha256 not in (None, announced.sha256):
            raise ModelCorrupt(
                f"{file} in {origin.whereabouts} is not that of the model {entry.name}", hint=origin.remedy
            )
