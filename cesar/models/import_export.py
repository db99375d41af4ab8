"""Imports models into the store from a file or a folder, and creates manifests for exports."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cesar.errors import ModelCorrupt
from cesar.models.archive import MANIFEST, Manifest, require_name
from cesar.models.catalog import FileEntry
from cesar.models.checksums import remembered_digest
from cesar.models.locations import ModelLocation, folder_location
from cesar.models.staging import join, locked, require_space
from cesar.models.verified import install

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from cesar.models.catalog import ModelEntry
    from cesar.models.verified import InstalledModel


def manifest_of(model: InstalledModel, store: Path) -> Manifest:
    """Return the manifest of an installed model."""
    files = {
        file: FileEntry(remembered_digest(path, store), path.stat().st_size)
        for file, (path,) in folder_location(model.directory).pieces.items()
    }
    return Manifest(model.name, model.revision, files)


def copy_files(source: Path, manifest: Manifest, folder: Path) -> None:
    """Copy the files that the manifest lists."""
    for file in manifest.files:
        join([source / file], folder / file)


def import_files(
    manifest: Manifest,
    fill: Callable[[Path], None],
    *,
    path: Path,
    store: Path,
    entry: ModelEntry | None,
) -> None:
    """Install a model in the store under its manifest's name, replacing an older one.

    fill: writes the files into the folder that it is given; path: where they come from, for messages;
    entry: the catalog's entry of that name. Raises `InputError` for an invalid name, `ModelCorrupt`,
    `DiskFull` and `OutputNotWritable`; the store is then unchanged.
    """
    name = manifest.name
    require_name(name)
    origin = ModelLocation("store", store / name, {}, manifest.revision, str(path), "Copy it again from its source.")
    if entry:
        _require_same(manifest, entry, origin)

    def fill_all(folder: Path) -> None:
        fill(folder)
        (folder / MANIFEST).write_text(manifest.to_json(), encoding="utf-8")

    with locked(store, name):
        require_space(store, manifest.size_bytes)
        install(fill_all, origin, manifest.files, store)


def _require_same(manifest: Manifest, entry: ModelEntry, origin: ModelLocation) -> None:
    for file, known in entry.files.items():
        announced = manifest.files.get(file)
        if announced is None or known.sha256 not in (None, announced.sha256):
            raise ModelCorrupt(
                f"{file} in {origin.description} is not that of the model {entry.name}", hint=origin.fix_hint
            )
