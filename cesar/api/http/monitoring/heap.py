"""`Heap`: returns memory to the system that bursts of requests have left free in this process.

glibc keeps freed memory in arenas, one for every few threads: 30 MiB after two hundred simultaneous uploads.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from pathlib import Path

WORTHWHILE_BYTES = 8 * 2**20
"""The growth from which on trimming is tried."""
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096
_STATM = Path("/proc/self/statm")


class Heap:
    """This process's heap. Does nothing without glibc or outside Linux."""

    def __init__(self) -> None:
        self._malloc_trim = _glibc_trim()
        self._min_bytes: int | None = None
        """The smallest size seen so far."""

    def trim(self) -> bool:
        """Return free memory to the system if the process has grown; return whether that was tried.

        The first call only records the size. Call it in a thread: it takes 2 ms in a process of 100 MiB.
        """
        size = resident_bytes()
        if self._malloc_trim is None or size is None:
            return False
        min_bytes = size if self._min_bytes is None else min(size, self._min_bytes)
        self._min_bytes = min_bytes
        if size < min_bytes + WORTHWHILE_BYTES:
            return False
        self._malloc_trim(0)
        return True


def resident_bytes() -> int | None:
    """Return the resident size of the process; None if it is unknown."""
    try:
        return int(_STATM.read_text().split()[1]) * _PAGE_BYTES
    except OSError:
        return None


def _glibc_trim() -> Callable[[int], int] | None:
    try:
        found = ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError, TypeError):
        return None
    return found
