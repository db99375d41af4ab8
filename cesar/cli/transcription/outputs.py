"""The destinations of a run's transcripts: formats and names, settled before any work. `writing` writes them."""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cesar.cli.transcription.inputs import STDIN, STDIN_NAME
from cesar.errors import UsageError
from cesar.formats import FORMATS, format_for_path, parse_formats

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from cesar.cli.transcription.inputs import SourceFile

STDOUT = Path("-")


@dataclass(frozen=True, slots=True)
class Target:
    """One text to write: its format and its file."""

    format: str
    path: Path
    """`STDOUT` for standard output."""


@dataclass(frozen=True, slots=True)
class FileTask:
    """One recording of a run, with the texts to write for it."""

    source: SourceFile
    targets: tuple[Target, ...]
    problem: UsageError | None = None
    """Why its texts can't be written: another recording of the run has their names."""

    @property
    def is_possible(self) -> bool:
        """Whether the recording can be read, and its texts written, as far as is known."""
        return self.source.problem is None and self.problem is None

    @property
    def is_done(self) -> bool:
        """Whether every text already exists as a file."""
        files = [target.path for target in self.targets if target.path != STDOUT]
        return bool(files) and all(file.is_file() for file in files)


@dataclass(frozen=True, slots=True)
class Destination:
    """The user's choice of output."""

    file: Path | None = None
    """`--output`; with several formats, its extension is replaced by that of each format."""
    folder: Path | None = None
    """`--output-dir`."""
    formats: tuple[str, ...] = ("txt",)
    skip_existing: bool = False
    """Whether recordings whose texts all exist are left out."""

    @property
    def is_stdout(self) -> bool:
        """Whether the text goes to standard output."""
        return self.folder is None and self.file in (None, STDOUT)


def choose_destination(
    file: Path | None = None, folder: Path | None = None, formats: Sequence[str] = (), *, skip_existing: bool = False
) -> Destination:
    """Return the destination; raises `UsageError` or `UnknownFormat` for options that do not go together.

    formats: as given, each a name or several separated by commas. Without any, the file's extension decides,
    else the format is txt.
    """
    if file and folder:
        raise UsageError("--output and --output-dir can't both be given", hint="Give one of them.")
    names = parse_formats(",".join(formats)) if formats else ((file and format_for_path(file)) or "txt",)
    destination = Destination(file, folder, names, skip_existing)
    if destination.is_stdout and len(names) > 1:
        raise UsageError(
            f"{len(names)} formats can't share standard output",
            hint="Give one format, or a folder with --output-dir.",
        )
    if skip_existing and destination.is_stdout:
        hint = "Give the file or folder that has the texts."
        raise UsageError("--skip-existing needs --output or --output-dir", hint=hint)
    return destination


def plan_outputs(sources: Sequence[SourceFile], destination: Destination) -> list[FileTask]:
    """Assign targets to every recording; reads the file system only to see which paths are the same file.

    A recording whose texts would overwrite another's, or a recording, gets a problem instead of targets.
    Raises `UsageError` if `--output` names a recording, or is given for several.
    """
    if destination.is_stdout:
        return [FileTask(recording, (Target(destination.formats[0], STDOUT),)) for recording in sources]
    if destination.file and len(sources) > 1:
        raise UsageError(
            f"--output takes one recording, and there are {len(sources)}",
            hint="Give a folder with --output-dir.",
        )
    usable = [recording for recording in sources if recording.problem is None]
    inputs = _identities(recording.path for recording in usable)
    named = dict(zip(usable, _name_targets(usable, destination, inputs), strict=True))
    tasks = _with_problems([FileTask(recording, named.get(recording, ())) for recording in sources], inputs)
    if destination.file and (problem := tasks[0].problem):
        raise problem
    return tasks


def _name_targets(
    sources: Sequence[SourceFile], destination: Destination, inputs: frozenset[object]
) -> list[tuple[Target, ...]]:
    if destination.folder:
        bases = _distinct_bases(sources, destination, inputs)
        return [_targets(destination.folder / base, destination.formats) for base in bases]
    file = destination.file or STDOUT
    if len(destination.formats) == 1:
        return [(Target(destination.formats[0], file),) for _ in sources]
    base = file.with_suffix("") if format_for_path(file) else file
    return [_targets(base, destination.formats) for _ in sources]


def _targets(base: Path, formats: Sequence[str]) -> tuple[Target, ...]:
    return tuple(Target(name, base.with_name(base.name + FORMATS[name].extensions[0])) for name in formats)


def _distinct_bases(sources: Sequence[SourceFile], destination: Destination, inputs: frozenset[object]) -> list[str]:
    """Return the base name of each recording's texts: its stem, or its whole name where the stem is taken.

    A whole name may be another's stem (`a.mp3` and `a.mp3.ogg`), so this repeats until nothing changes.
    """
    folder = destination.folder or Path()
    paths = [recording.path for recording in sources]
    whole = [STDIN_NAME if path == STDIN else path.name for path in paths]
    bases = [Path(name).stem for name in whole]
    while True:
        counts = Counter(_fold(base) for base in bases)
        taken = [
            counts[_fold(base)] > 1 or _collides(_targets(folder / base, destination.formats), inputs) for base in bases
        ]
        longer = [whole[i] if taken[i] else base for i, base in enumerate(bases)]
        if longer == bases:
            return bases
        bases = longer


def _fold(name: str) -> str:
    """Fold differences that some file systems ignore: case, and the composition of accents."""
    return unicodedata.normalize("NFC", name).casefold()


def _with_problems(tasks: Sequence[FileTask], inputs: frozenset[object]) -> list[FileTask]:
    """Leave clashing targets to the first task that has them; a task that would overwrite a recording has none."""
    first: dict[str, FileTask] = {}
    checked: list[FileTask] = []
    for task in tasks:
        names = [_fold(str(target.path)) for target in task.targets]
        others = [first[name] for name in names if name in first]
        problem = _overwriting(task, inputs) or (_name_clash(task, others[0]) if others else None)
        if problem is None:
            first |= dict.fromkeys(names, task)
        checked.append(task if problem is None else FileTask(task.source, (), problem))
    return checked


def _name_clash(task: FileTask, other: FileTask) -> UsageError:
    return UsageError(
        f"the text of {task.source.name} would have the same name as that of {other.source.name}",
        hint="Rename one of them, or transcribe it into another folder. Many systems ignore capitals and the encoding "
        "of accents in names.",
    )


def _overwriting(task: FileTask, inputs: frozenset[object]) -> UsageError | None:
    for target in task.targets:
        if _collides([target], inputs):
            return UsageError(
                f"{target.path} is a recording of this run and would be overwritten",
                hint="Choose another name or folder for the text.",
            )
    return None


def _collides(targets: Iterable[Target], inputs: frozenset[object]) -> bool:
    return any(not inputs.isdisjoint(_identities([target.path])) for target in targets)


def _identities(paths: Iterable[Path]) -> frozenset[object]:
    """Return the files' real paths and, where they exist, device and inode, which hard links share."""
    found: set[object] = set()
    for path in paths:
        if path == STDIN:
            continue
        found.add(os.path.realpath(path))
        try:
            status = path.stat()
        except OSError:
            continue
        found.add((status.st_dev, status.st_ino))
    return frozenset(found)
