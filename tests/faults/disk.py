"""Which disks a power cut could leave after file operations (`power.Op`): replays a history up to any point."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from itertools import pairwise

from tests.faults.power import Op

SECTOR = 512


@dataclass
class _File:
    """A file's content: what is certainly on the disk, and the operations since."""

    safe: bytearray = field(default_factory=bytearray)
    pending: list[Op] = field(default_factory=list)

    def sync(self) -> None:
        for op in self.pending:
            _change(self.safe, op)
        self.pending = []


class Disk:
    """The files as programs see them, and as a power cut may leave them.

    What is assumed of the hardware and the file system: a sync that has returned holds; before it, each write and
    each truncation may have reached the disk or not, in any order, and a write may be torn between sectors of 512
    bytes (a sector is whole, and its neighbours are not harmed: SQLite's "powersafe overwrite"); a name that was made
    or removed holds only once its folder is synced.
    """

    def __init__(self) -> None:
        self._names: dict[str, _File] = {}
        self._safe_names: dict[str, _File] = {}
        self._pending_names: list[tuple[str, _File | None]] = []

    def do(self, op: Op) -> None:
        match op.kind:
            case "create":
                self._rename(op.path, _File())
            case "delete" if op.path in self._names:
                self._rename(op.path, None)
            case "write" | "truncate":
                self._names[op.path].pending.append(op)
            case "sync":
                self._names[op.path].sync()
            case "sync folder":
                for path, file in self._pending_names:
                    _set_name(self._safe_names, path, file)
                self._pending_names = []

    def after_power_cut(self, chance: random.Random | None) -> dict[str, bytes]:
        """Return the content of all files: without randomness, nothing unflushed is there; otherwise some of it."""
        names = dict(self._safe_names)
        for path, file in self._pending_names:
            if chance is not None and chance.random() < 0.5:
                _set_name(names, path, file)
        part = 0.0 if chance is None else chance.choice((0.1, 0.5, 0.9))
        return {path: bytes(_survivor(file, part, chance)) for path, file in names.items()}

    def _rename(self, path: str, file: _File | None) -> None:
        self._pending_names.append((path, file))
        _set_name(self._names, path, file)


def _set_name(names: dict[str, _File], path: str, file: _File | None) -> None:
    if file is None:
        names.pop(path, None)
    else:
        names[path] = file


def _survivor(file: _File, part: float, chance: random.Random | None) -> bytearray:
    content = bytearray(file.safe)
    for op in file.pending:
        if chance is not None and chance.random() < part:
            for piece in _torn(op, chance) if chance.random() < 0.3 else [op]:
                _change(content, piece)
    return content


def _torn(write: Op, chance: random.Random) -> list[Op]:
    """Split a write at sector boundaries, and drop half of the sectors."""
    end = write.at + len(write.data)
    borders = [write.at, *range((write.at // SECTOR + 1) * SECTOR, end, SECTOR), end]
    pieces = [write._replace(at=a, data=write.data[a - write.at : b - write.at]) for a, b in pairwise(borders)]
    return [write] if write.kind != "write" else [piece for piece in pieces if chance.random() < 0.5]


def _change(content: bytearray, op: Op) -> None:
    if len(content) < op.at:
        content.extend(bytes(op.at - len(content)))
    if op.kind == "truncate":
        del content[op.at :]
    else:
        content[op.at : op.at + len(op.data)] = op.data
