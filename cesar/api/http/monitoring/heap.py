"""`Heap`: gives memory back to the system that bursts of requests have left free in this process.

glibc keeps what was freed for later, in an arena for each few threads: 30 MiB after two hundred uploads at once.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from pathlib import Path

WORTHWHILE_BYTES = 8 * 2**20
"""From this growth on it is tried."""
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096
_STATM = Path("/proc/self/statm")


class Heap:
    """This process's memory. Without glibc, or outside Linux, nothing happens."""

    def __init__(self) -> None:
        self._trim = _glibc_trim()
        self._least_bytes: int | None = None
        """The smallest size at which the process was seen."""

    def give_back(self) -> bool:
        """Give free memory back while the process is larger than it has been; return whether that was tried.

        The first call only notes the size. For a thread: it takes 2 ms in a process of 100 MiB.
        """
        size = resident_bytes()
        if self._trim is None or size is None:
            return False
        least = size if self._least_bytes is None else min(size, self._least_bytes)
        self._least_bytes = least
        if size < least + WORTHWHILE_BYTES:
            return False
        self._trim(0)
        return True


def resident_bytes() -> int | None:
    """Return how much memory the process has; None if it can't be told."""
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
