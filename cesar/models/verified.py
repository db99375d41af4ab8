"""From a copy of a model to one that can be used: checked, joined where it is in parts, truly named."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from cesar.errors import ModelCorrupt
from cesar.models.archive import MANIFEST, NAME, Manifest, manifest_from_json
from cesar.models.catalog import WEIGHTS, entry_with_weights
from cesar.models.checksums import digest_of, remember, remembered_digest
from cesar.models.locations import Copy, Source, check, check_sizes, folder_copy, missing_from, store_copy
from cesar.models.staging import join, locked, require_room, staged

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from cesar.models.catalog import FileEntry, ModelEntry


@dataclass(frozen=True, slots=True)
class InstalledModel:
    """A model that is here, and is what it claims to be."""

    name: str
    directory: Path
    """Absolute; holds model.bin, config.json, tokenizer.json and the vocabulary."""
    revision: str
    """The publisher's revision where it is known, else "unknown"."""
    digest: str
    """SHA-256 of model.bin, hexadecimal."""
    source: Source


def made_ready(copy: Copy, entry: ModelEntry, store: Path) -> InstalledModel:
    """Check a copy of a catalog model, and join it into the store first if it is in parts.

    Raises `ModelCorrupt`; nothing of a damaged model stays in the store.
    """
    check_sizes(copy, entry.name, entry.files)
    whole = _joined(copy, entry, store) if copy.is_cut else copy
    digests = check(whole, entry.name, entry.files, partial(remembered_digest, store=store))
    return InstalledModel(entry.name, whole.directory.absolute(), copy.revision, digests[WEIGHTS], copy.source)


def _joined(copy: Copy, entry: ModelEntry, store: Path) -> Copy:
    def fill(folder: Path) -> None:
        for file, parts in copy.pieces.items():
            join(parts, folder / file)

    with locked(store, entry.name):
        if not (store / entry.name).is_dir():  # else another process was faster
            require_room(store, entry.size_bytes)
            take_in(fill, replace(copy, directory=store / entry.name), entry.files, store)
    return store_copy(entry, store)


def take_in(fill: Callable[[Path], None], origin: Copy, files: Mapping[str, FileEntry], store: Path) -> None:
    """Put a model in its place, `origin.directory` in the store, if what `fill` writes is sound.

    To be used under `locked`. Raises `ModelCorrupt`, in the words of the copy that it comes from.
    """
    target = origin.directory
    with staged(store, target.name) as folder:
        fill(folder)
        copy = replace(folder_copy(folder), whereabouts=origin.whereabouts, remedy=origin.remedy)
        digests = check(copy, target.name, files, hash_anew)
    remember({target / file: digest for file, digest in digests.items()}, store)


def hash_anew(file: Path) -> str:
    """Give a file's SHA-256, whatever is remembered."""
    return digest_of([file])


def installed_folder(folder: Path, store: Path, catalog: Mapping[str, ModelEntry]) -> InstalledModel:
    """Take a folder that somebody gave, and find out which model it is.

    It has the catalog's name and revision if all the files are the same, else the folder's name.
    """
    copy = folder_copy(folder.absolute())
    digest = partial(remembered_digest, store=store)
    digests = check(copy, folder.name, {}, digest)
    entry = entry_with_weights(digests[WEIGHTS], catalog)
    known = {file: entry.files[file].sha256 for file in digests if file in entry.files} if entry else {}
    is_the_same = all(sha256 in (None, digests[file]) for file, sha256 in known.items())
    name, revision = (entry.name, entry.revision) if entry and is_the_same else (folder.resolve().name, None)
    return InstalledModel(name, copy.directory, revision or "unknown", digests[WEIGHTS], "directory")


def kept_folder(name: str, store: Path) -> Path | None:
    """Give the store's folder of a model that the catalog doesn't have, if there is one.

    A folder of that name where the program runs goes before it.
    """
    # Listed, not opened: on a system blind to case, BASE would else be the catalog's base, unchecked.
    if not NAME.fullmatch(name) or Path(name).is_dir() or name not in kept_names(store):
        return None
    return None if missing_from(store / name) else store / name


def kept_names(store: Path) -> list[str]:
    """Give the names of the store's folders, sorted."""
    return sorted(folder.name for folder in store.iterdir() if folder.is_dir()) if store.is_dir() else []


def kept_model(folder: Path, store: Path) -> InstalledModel:
    """Take a model that was imported under a name of its own, and check it against its manifest."""
    manifest = kept_manifest(folder)
    copy = folder_copy(folder.absolute())
    digests = check(copy, folder.name, manifest.files, partial(remembered_digest, store=store))
    return InstalledModel(folder.name, copy.directory, manifest.revision, digests[WEIGHTS], "store")


def kept_manifest(folder: Path) -> Manifest:
    """Read what an imported model's files must be; an empty list if it came to its place by other ways."""
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
