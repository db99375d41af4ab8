"""Reads the rows of a damaged database page by page, without SQLite.

SQLite reaches a row through a path of pages, and a damaged page hides everything behind it. Here every page is read by
itself (https://sqlite.org/fileformat2.html): leaves have whole rows, and long rows continue in overflow pages that they
name. Pages committed to the write-ahead log take precedence over the file.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PAGE_BYTES = 4096
"""Page size of Cesar's databases, SQLite's default, unless their header says otherwise."""
_HEADER_BYTES = 100
_MAGIC = b"SQLite format 3\x00"
_TABLE_LEAF, _INDEX_LEAF, _INDEX_INNER = 0x0D, 0x0A, 0x02
_WAL_HEADER_BYTES, _FRAME_HEADER_BYTES = 32, 24
_WAL_MAGIC = 0x377F0682
_MAX_COLUMNS = 200
Value = int | float | str | bytes | None


@dataclass(frozen=True, slots=True)
class SalvagedRow:
    """A row as it is stored in the file."""

    rowid: int | None
    """None: the row is from a table without row ids, or from an index."""
    values: tuple[Value, ...]
    is_whole: bool
    """Whether all of it could be read; otherwise the last values are missing."""


class PageReader:
    """The pages of a database file, with its write-ahead log applied."""

    def __init__(self, database: Path) -> None:
        self._file = database.read_bytes()
        self.size = _page_size(self._file)
        log = database.with_name(f"{database.name}-wal")
        self._newer = _committed(log.read_bytes(), self.size) if log.is_file() else {}

    def __len__(self) -> int:
        return max(-(-len(self._file) // self.size), max(self._newer, default=0))

    def page(self, number: int) -> bytes:
        """Return a page, counted from 1; a short one is padded with zeros."""
        if number in self._newer:
            return self._newer[number]
        return self._file[(number - 1) * self.size : number * self.size].ljust(self.size, b"\0")

    def rows(self) -> Iterator[SalvagedRow]:
        """Yield every readable row of every table and index."""
        for number in range(1, len(self) + 1):
            page = self.page(number)
            start = _HEADER_BYTES if number == 1 else 0
            kind = page[start]
            if kind in (_TABLE_LEAF, _INDEX_LEAF, _INDEX_INNER):
                for offset in _cells(page, start, kind):
                    row = self._row(page, offset, kind)
                    if row is not None:
                        yield row

    def _row(self, page: bytes, offset: int, kind: int) -> SalvagedRow | None:
        try:
            offset += 4 if kind == _INDEX_INNER else 0  # the pointer to the left child page
            length, offset = _varint(page, offset)
            rowid = None
            if kind == _TABLE_LEAF:
                rowid, offset = _varint(page, offset)
                rowid -= (rowid >> 63) << 64
            payload = self._payload(page, offset, length, is_table=kind == _TABLE_LEAF)
            values = _values(payload)
        except (IndexError, struct.error, ValueError):
            return None
        return SalvagedRow(rowid, values, len(payload) == length and len(values) == _column_count(payload))

    def _payload(self, page: bytes, offset: int, length: int, *, is_table: bool) -> bytes:
        """Return a cell's payload, as far as it is readable, from its page and its overflow pages."""
        usable = self.size
        max_local = usable - 35 if is_table else (usable - 12) * 64 // 255 - 23
        if length <= max_local:
            return page[offset : offset + length]
        min_local = (usable - 12) * 32 // 255 - 23
        local = min_local + (length - min_local) % (usable - 4)
        local = local if local <= max_local else min_local
        found = bytearray(page[offset : offset + local])
        following = int.from_bytes(page[offset + local : offset + local + 4])
        seen: set[int] = set()
        while len(found) < length and 0 < following <= len(self) and following not in seen:
            seen.add(following)
            more = self.page(following)
            found += more[4 : 4 + length - len(found)]
            following = int.from_bytes(more[:4])
        return bytes(found)


def _page_size(content: bytes) -> int:
    size = int.from_bytes(content[16:18]) if content.startswith(_MAGIC) else PAGE_BYTES
    size = 65536 if size == 1 else size
    return size if size >= 512 and size & (size - 1) == 0 else PAGE_BYTES


def _cells(page: bytes, start: int, kind: int) -> list[int]:
    """Return the valid offsets of a page's cells."""
    count = int.from_bytes(page[start + 3 : start + 5])
    first = start + (12 if kind == _INDEX_INNER else 8)
    offsets = [int.from_bytes(page[at : at + 2]) for at in range(first, min(first + 2 * count, len(page) - 1), 2)]
    return [offset for offset in offsets if first <= offset < len(page)]


def _varint(content: bytes, offset: int) -> tuple[int, int]:
    value = 0
    for number in range(9):
        byte = content[offset + number]
        if number == 8:
            return value << 8 | byte, offset + 9
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, offset + number + 1
    raise ValueError("unreachable")


def _types(payload: bytes) -> tuple[list[int], int]:
    header_bytes, offset = _varint(payload, 0)
    if not 2 <= header_bytes <= min(len(payload), 9 * _MAX_COLUMNS):
        raise ValueError("not a record header")
    types = []
    while offset < header_bytes:
        kind, offset = _varint(payload, offset)
        types.append(kind)
    return types, header_bytes


def _column_count(payload: bytes) -> int:
    return len(_types(payload)[0])


def _values(payload: bytes) -> tuple[Value, ...]:
    """Return a row's values, up to the first that is truncated or invalid."""
    types, offset = _types(payload)
    values: list[Value] = []
    for kind in types:
        size = _size_of(kind)
        content = payload[offset : offset + size]
        if len(content) < size:
            break
        try:
            values.append(_value(kind, content))
        except ValueError:  # text that is not UTF-8: another table's page
            break
        offset += size
    return tuple(values)


def _size_of(kind: int) -> int:
    if kind >= 12:
        return (kind - 12) // 2
    if kind in (10, 11):
        raise ValueError("no such type")
    return (0, 1, 2, 3, 4, 6, 8, 8, 0, 0)[kind]


def _value(kind: int, content: bytes) -> Value:
    if kind >= 12:
        return content.decode() if kind % 2 else content
    if kind == 0:
        return None
    if kind == 7:
        return float(struct.unpack(">d", content)[0])
    return kind - 8 if kind in (8, 9) else int.from_bytes(content, signed=True)


def _committed(log: bytes, page_bytes: int) -> dict[int, bytes]:
    """Return the pages committed in a write-ahead log: its frames up to the last valid commit."""
    if len(log) < _WAL_HEADER_BYTES or int.from_bytes(log[:4]) & ~1 != _WAL_MAGIC:
        return {}
    order = ">" if log[3] & 1 else "<"
    size = int.from_bytes(log[8:12])
    if size != page_bytes:
        return {}
    sums = _checksum(log[:24], order, (0, 0))
    pages: dict[int, bytes] = {}
    pending: dict[int, bytes] = {}
    for at in range(_WAL_HEADER_BYTES, len(log) - _FRAME_HEADER_BYTES - size + 1, _FRAME_HEADER_BYTES + size):
        head, page = log[at : at + _FRAME_HEADER_BYTES], log[at + _FRAME_HEADER_BYTES :][:size]
        sums = _checksum(page, order, _checksum(head[:8], order, sums))
        if head[8:16] != log[16:24] or sums != struct.unpack(">2I", head[16:24]):
            break
        pending[int.from_bytes(head[:4])] = page
        if any(head[4:8]):
            pages |= pending
            pending = {}
    return pages


def _checksum(content: bytes, order: str, sums: tuple[int, int]) -> tuple[int, int]:
    first, second = sums
    words = iter(struct.unpack(f"{order}{len(content) // 4}I", content))
    for one, two in zip(words, words, strict=True):
        first = first + one + second & 0xFFFFFFFF
        second = second + two + first & 0xFFFFFFFF
    return first, second
