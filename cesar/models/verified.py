"""Turns a model's location into an installed model: verified, joined if it is split, and with its correct name."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from cesar.errors import ModelCorrupt
from cesar.models.archive import MANIFEST, NAME, Manifest, manifest_from_json
from cesar.models.catalog import WEIGHTS, entry_with_weights
from cesar.models.checksums import digest_of, remember, remembered_digest
from cesar.models.locations import (
    ModelLocation,
    Source,
    check,
    check_sizes,
    folder_location,
    missing_from,
    store_location,
)
from cesar.models.staging import join, locked, require_space, staged

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from cesar.models.catalog import FileEntry, ModelEntry


@dataclass(frozen=True, slots=True)
class InstalledModel:
    """A model on this machine, verified."""

    name: str
    directory: Path
    """Absolute; contains model.bin, config.json, tokenizer.json and the vocabulary."""
    revision: str
    """The publisher's revision if known, else "unknown"."""
    digest: str
    """SHA-256 of model.bin, hexadecimal."""
    source: Source


def verified(location: ModelLocation, entry: ModelEntry, store: Path) -> InstalledModel:
    """Verify a catalog model at a location, joining it into the store first if it is split.

    Raises `ModelCorrupt`; nothing of a damaged model stays in the store.
    """
    check_sizes(location, entry.name, entry.files)
    whole = _joined(location, entry, store) if location.is_split else location
    digests = check(whole, entry.name, entry.files, partial(remembered_digest, store=store))
    return InstalledModel(entry.name, whole.directory.absolute(), location.revision, digests[WEIGHTS], location.source)


def _joined(location: ModelLocation, entry: ModelEntry, store: Path) -> ModelLocation:
    def fill(folder: Path) -> None:
        for file, parts in location.pieces.items():
            join(parts, folder / file)

    with locked(store, entry.name):
        if not (store / entry.name).is_dir():  # otherwise another process was faster
            require_space(store, entry.size_bytes)
            install(fill, replace(location, directory=store / entry.name), entry.files, store)
    return store_location(entry, store)


def install(fill: Callable[[Path], None], origin: ModelLocation, files: Mapping[str, FileEntry], store: Path) -> None:
    """Install a model at `origin.directory` in the store if the files written by `fill` are intact.

    Call it under `locked`. Raises `ModelCorrupt`, which describes the location that the files come from.
    """
    target = origin.directory
    with staged(store, target.name) as folder:
        fill(folder)
        location = replace(folder_location(folder), description=origin.description, fix_hint=origin.fix_hint)
        digests = check(location, target.name, files, compute_digest)
    remember({target / file: digest for file, digest in digests.items()}, store)


def compute_digest(file: Path) -> str:
    """Return a file's SHA-256, ignoring the cache."""
    return digest_of([file])


def installed_folder(folder: Path, store: Path, catalog: Mapping[str, ModelEntry]) -> InstalledModel:
    """Identify the model in a folder named by the user.

    It gets the catalog's name and revision if all the files are the same, otherwise the folder's name.
    """
    location = folder_location(folder.absolute())
    digest = partial(remembered_digest, store=store)
    digests = check(location, folder.name, {}, digest)
    entry = entry_with_weights(digests[WEIGHTS], catalog)
    known = {file: entry.files[file].sha256 for file in digests if file in entry.files} if entry else {}
    is_the_same = all(sha256 in (None, digests[file]) for file, sha256 in known.items())
    name, revision = (entry.name, entry.revision) if entry and is_the_same else (folder.resolve().name, None)
    return InstalledModel(name, location.directory, revision or "unknown", digests[WEIGHTS], "directory")


def stored_folder(name: str, store: Path) -> Path | None:
    """Return the store's folder of a model that is not in the catalog, if there is one.

    A folder of that name in the working directory takes precedence.
    """
    # Listed, not opened: on a case-insensitive file system, BASE would otherwise be the catalog's base, unverified.
    if not NAME.fullmatch(name) or Path(name).is_dir() or name not in stored_names(store):
        return None
    return None if missing_from(store / name) else store / name


def stored_names(store: Path) -> list[str]:
    """Return the names of the store's folders, sorted."""
    return sorted(folder.name for folder in store.iterdir() if folder.is_dir()) if store.is_dir() else []


def stored_model(folder: Path, store: Path) -> InstalledModel:
    """Verify a model imported under its own name against its manifest."""
    manifest = stored_manifest(folder)
    location = folder_location(folder.absolute())
    digests = check(location, folder.name, manifest.files, partial(remembered_digest, store=store))
    return InstalledModel(folder.name, location.directory, manifest.revision, digests[WEIGHTS], "store")


def stored_manifest(folder: Path) -> Manifest:
    """Read the manifest of an imported model; it lists no files if the folder was not imported."""
    file = folder / MANIFEST
    if not file.is_file():
        return Manifest(folder.name, "unknown", {})
    try:
        return manifest_from_json(file.read_bytes())
    except ValueError as error:
        raise ModelCorrupt(
            f"{MANIFEST} of the model {folder.name} in {folder} is damaged: {error}",
            hint="Remove the folder and import the model again.",
        ) from error
