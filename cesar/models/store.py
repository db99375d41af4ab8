"""The models on this machine: locate, list, verify, download, export and import.

A model is searched for in a folder named by the user, in Cesar's own store, in installed weights packages (which are
never imported) and in the Hugging Face cache; then, only if allowed, on the network. Nothing is used before its SHA-256
matches the catalog.
"""

from __future__ import annotations

import difflib
import shutil
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from cesar.errors import ModelCorrupt, ModelNotInstalled, UnknownModel
from cesar.models import archive, download
from cesar.models.catalog import CATALOG, WEIGHTS, FileEntry, entry_with_weights
from cesar.models.checksums import digest_of, remember
from cesar.models.import_export import copy_files, import_files, manifest_of
from cesar.models.locations import check, folder_location, locations_of, missing_from, store_location
from cesar.models.staging import locked, put_in_place, require_space
from cesar.models.verified import (
    InstalledModel,
    compute_digest,
    installed_folder,
    stored_folder,
    stored_manifest,
    stored_model,
    stored_names,
    verified,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cesar.models.catalog import ModelEntry
    from cesar.models.locations import Source

__all__ = [
    "FileCheck",
    "InstalledModel",
    "ModelStatus",
    "export_model",
    "import_model",
    "list_models",
    "locate",
    "pull",
    "verify",
]


@dataclass(frozen=True, slots=True)
class ModelStatus:
    """The location of a model, if any; it may be damaged."""

    name: str
    entry: ModelEntry | None
    """None for a model in the store that is not in the catalog."""
    directory: Path | None
    """None if it is not on this machine."""
    source: Source | None


@dataclass(frozen=True, slots=True)
class FileCheck:
    """The result of hashing one file of a model."""

    file: str
    expected: str | None
    """SHA-256; None if unknown."""
    actual: str | None
    """SHA-256; None if the file is missing."""
    ok: bool


def locate(
    name_or_dir: str,
    *,
    store: Path,
    allow_network: bool,
    on_progress: download.OnProgress | None = None,
    catalog: Mapping[str, ModelEntry] = CATALOG,
) -> InstalledModel:
    """Find a model by its catalog name, its name in the store, or its folder; the module's docstring has the order.

    A catalog name always means the catalog's model: write ./NAME for a folder of the same name.
    Weights split into parts are first joined in the store.
    Raises `UnknownModel`, `ModelNotInstalled`, `ModelCorrupt`, `DownloadFailed`, and `DiskFull` or
    `OutputNotWritable` if a model can't be written to the store.
    """
    entry = catalog.get(name_or_dir)
    if entry is None:
        return _locate_other(name_or_dir, store, catalog)
    if found := _find(entry, store):
        return found
    if not allow_network:
        raise _not_installed(entry)
    return _download(entry, store, on_progress)


def pull(
    name: str,
    *,
    store: Path,
    on_progress: download.OnProgress | None = None,
    catalog: Mapping[str, ModelEntry] = CATALOG,
) -> InstalledModel:
    """Ensure that a catalog model is installed and intact; download it if it is missing or damaged.

    A damaged model in the store is removed. Raises what `locate` raises, except for damage found here.
    """
    entry = catalog.get(name)
    if entry is None:
        raise _unknown(name, catalog)
    _drop_damaged(entry, store)
    with suppress(ModelCorrupt):
        if found := _find(entry, store):
            return found
    return _download(entry, store, on_progress)


def list_models(store: Path, *, catalog: Mapping[str, ModelEntry] = CATALOG) -> list[ModelStatus]:
    """Return every model of the catalog, then the others in the store; only check that the files exist."""
    listed = []
    for entry in catalog.values():
        found = next((location for location in locations_of(entry, store) if location.is_complete), None)
        directory, source = (found.directory, found.source) if found else (None, None)
        listed.append(ModelStatus(entry.name, entry, directory, source))
    for name in stored_names(store):
        if name not in catalog and archive.NAME.fullmatch(name) and not missing_from(store / name):
            listed += [ModelStatus(name, None, store / name, "store")]
    return listed


def verify(name_or_dir: str, *, store: Path, catalog: Mapping[str, ModelEntry] = CATALOG) -> list[FileCheck]:
    """Hash every file of a model again, ignoring cached digests.

    Raises `UnknownModel`, and `ModelNotInstalled` if no file of the model is found.
    """
    if entry := catalog.get(name_or_dir):
        location = next(locations_of(entry, store), None)
        if location is None:
            raise _not_installed(entry)
        files = entry.files
    elif folder := stored_folder(name_or_dir, store):
        location, files = folder_location(folder), stored_manifest(folder).files
    else:
        location = folder_location(_folder(name_or_dir, catalog))
        known = entry_with_weights(compute_digest(location.directory / WEIGHTS), catalog)
        files = known.files if known else {}
    return [
        _check_file(file, location.pieces.get(file, ()), files.get(file, FileEntry()))
        for file in {**files, **location.pieces}
    ]


def export_model(name_or_dir: str, target: Path, *, store: Path, catalog: Mapping[str, ModelEntry] = CATALOG) -> Path:
    """Write an installed model to one file for import elsewhere; return the file's path.

    target: the file, or a folder in which to write NAME.cesar-model.
    Raises what `locate` raises, `DiskFull` and `OutputNotWritable`.
    """
    model = locate(name_or_dir, store=store, allow_network=False, catalog=catalog)
    archive.require_name(model.name)
    manifest = manifest_of(model, store)
    path = target / f"{model.name}{archive.SUFFIX}" if target.is_dir() else target
    require_space(path.parent, manifest.size_bytes)
    archive.pack(model.directory, manifest, path)
    return path


def import_model(path: Path, *, store: Path, catalog: Mapping[str, ModelEntry] = CATALOG) -> InstalledModel:
    """Import a model into the store from a file written by `export_model` or from a folder, replacing an older one.

    Raises `InputError` for a file and `UnknownModel` for a folder that is not a model, `ModelCorrupt` for a damaged
    one, `DiskFull` and `OutputNotWritable`; the store is then unchanged.
    """
    if path.is_dir():
        model = installed_folder(_folder(str(path), catalog), store, catalog)
        manifest = manifest_of(model, store)
        fill = partial(copy_files, model.directory, manifest)
        import_files(manifest, fill, path=path, store=store, entry=catalog.get(manifest.name))
    else:
        with archive.opened(path) as (tar, manifest):
            fill = partial(archive.extract, tar, manifest, path)
            import_files(manifest, fill, path=path, store=store, entry=catalog.get(manifest.name))
    return locate(manifest.name, store=store, allow_network=False, catalog=catalog)


def _find(entry: ModelEntry, store: Path) -> InstalledModel | None:
    """Return the first intact one. Damage at a location that claims to be exactly this model is an error."""
    for location in locations_of(entry, store):
        try:
            return verified(location, entry, store)
        except ModelCorrupt:
            if location.is_certain:
                raise
    return None


def _drop_damaged(entry: ModelEntry, store: Path) -> None:
    location = store_location(entry, store)
    if not location.directory.is_dir():
        return
    with locked(store, entry.name):
        try:
            verified(location, entry, store)
        except ModelCorrupt:
            shutil.rmtree(location.directory)


def _download(entry: ModelEntry, store: Path, on_progress: download.OnProgress | None) -> InstalledModel:
    target, arriving = store / entry.name, store / f".{entry.name}.download"
    with locked(store, entry.name):
        with suppress(ModelCorrupt):  # another process may have fetched it while this one waited
            if found := _find(replace(entry, package=None), store):
                return found
        require_space(store, entry.size_bytes - download.arrived_bytes(arriving))
        download.download(entry, arriving, on_progress)
        location = replace(folder_location(arriving), description=f"the download from {entry.repository}")
        try:
            digests = check(location, entry.name, entry.files, compute_digest)
        except ModelCorrupt:
            shutil.rmtree(arriving, ignore_errors=True)
            raise
        put_in_place(arriving, target)
        remember({target / file: digest for file, digest in digests.items()}, store)
    return InstalledModel(entry.name, target.absolute(), entry.revision or "unknown", digests[WEIGHTS], "download")


def _locate_other(name_or_dir: str, store: Path, catalog: Mapping[str, ModelEntry]) -> InstalledModel:
    if stored := stored_folder(name_or_dir, store):
        return stored_model(stored, store)
    return installed_folder(_folder(name_or_dir, catalog), store, catalog)


def _folder(name_or_dir: str, catalog: Mapping[str, ModelEntry]) -> Path:
    folder = Path(name_or_dir).expanduser()
    if not folder.is_dir():
        raise _unknown(name_or_dir, catalog)
    if missing := missing_from(folder):
        raise UnknownModel(
            f"the folder {folder} contains no model: {missing} is missing",
            hint="Specify the folder of a CTranslate2 Whisper model.",
        )
    return folder


def _check_file(file: str, parts: tuple[Path, ...], entry: FileEntry) -> FileCheck:
    actual = digest_of(parts) if parts and all(part.is_file() for part in parts) else None
    return FileCheck(file, entry.sha256, actual, ok=actual is not None and entry.sha256 in (None, actual))


def _not_installed(entry: ModelEntry) -> ModelNotInstalled:
    package = f", install Cesar with its extra `{entry.package.extra}`" if entry.package else ""
    return ModelNotInstalled(
        f"the model {entry.name} is not on this machine",
        hint=f"Run `cesar models pull {entry.name}`{package}, or offline `cesar models import FILE`.",
    )


def _unknown(name: str, catalog: Mapping[str, ModelEntry]) -> UnknownModel:
    similar = difflib.get_close_matches(name.lower(), catalog, n=3, cutoff=0.6)
    similar += [known for known in catalog if name and name.lower() in known and known not in similar]
    return UnknownModel(
        f"there is no model or folder {name!r}",
        hint=f"Did you mean {' or '.join(similar)}?" if similar else None,
    )
