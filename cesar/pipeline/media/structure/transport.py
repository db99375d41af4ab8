"""Transport streams (ISO/IEC 13818-1): where the list of a programme's streams changes, as where two are joined.

FFmpeg goes on with the streams that it found at the beginning. Those of a later list, with other numbers or codecs, are
lost; so each list begins a recording of its own.
"""

from __future__ import annotations

from functools import lru_cache
from typing import BinaryIO

import numpy as np

PACKET_BYTES = 188
_PACKETS_AT_ONCE = 5000
_Streams = frozenset[tuple[int, int]]
"""Type and number of each stream of a programme."""


def walk_packets(file: BinaryIO, start: int, size: int) -> tuple[int, bool]:
    """Return where the packets end that begin there, and whether that is since another list of streams begins."""
    lists: dict[int, _Streams] = {}
    table_at = start
    for at in range(start, size, PACKET_BYTES * _PACKETS_AT_ONCE):
        file.seek(at)
        block = file.read(PACKET_BYTES * _PACKETS_AT_ONCE)
        marks = block[::PACKET_BYTES]
        good = len(marks) - len(marks.lstrip(b"G"))
        packets = np.frombuffer(block, np.uint8, min(good, len(block) // PACKET_BYTES) * PACKET_BYTES)
        packets = packets.reshape(-1, PACKET_BYTES)
        numbers = (packets[:, 1].astype(np.int64) & 0x1F) << 8 | packets[:, 2]
        is_section = (packets[:, 1] & 0x40 > 0) & (numbers < 0x1FFF)
        is_section &= (packets[:, 4] == 0) & (packets[:, 3] & 0x20 == 0)
        for index in np.flatnonzero(is_section).tolist():
            number, place = int(numbers[index]), at + PACKET_BYTES * index
            if number == 0:
                table_at = place
            elif (streams := _streams(packets[index, 4:].tobytes())) and lists.setdefault(number, streams) != streams:
                return table_at if table_at > place - PACKET_BYTES * 4 else place, True
        if good < len(marks):
            return at + PACKET_BYTES * good, False
    return size, False


@lru_cache(maxsize=256)
def _streams(content: bytes) -> _Streams | None:
    """Return the streams of a programme, if the packet is a list of them."""
    section = content[1:]
    length = int.from_bytes(section[1:3]) & 0xFFF
    is_list = section[0] == 2 and section[1] & 0xC0 == 0x80 and 13 <= length <= len(section) - 3
    if not is_list or _checksum(section[: 3 + length]):
        return None
    at, end, found = 12 + (int.from_bytes(section[10:12]) & 0xFFF), length - 1, set()
    while at + 5 <= end:
        found.add((section[at], int.from_bytes(section[at + 1 : at + 3]) & 0x1FFF))
        at += 5 + (int.from_bytes(section[at + 3 : at + 5]) & 0xFFF)
    return frozenset(found)


def _checksum(section: bytes) -> int:
    """CRC-32 as MPEG-2 has it: 0 for a section with its checksum at the end."""
    register = 0xFFFF_FFFF
    for byte in section:
        register ^= byte << 24
        for _ in range(8):
            register = (register << 1 ^ (0x04C1_1DB7 if register & 0x8000_0000 else 0)) & 0xFFFF_FFFF
    return register
