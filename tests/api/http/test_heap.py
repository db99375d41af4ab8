"""Memory that a burst of requests has left free goes back to the system."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="only glibc keeps what was freed, and can be told to let it go"),
]
PROGRAM = """
from cesar.api.http.monitoring.heap import Heap, resident_bytes
MIB = 2**20
heap = Heap()
if heap._malloc_trim is None:  # another C library
    print("no glibc")
    raise SystemExit
assert heap.trim() is False, "the first call only records the size"
before = resident_bytes()
blocks = [bytearray(b"x") * 65_536 for _ in range(1024)]  # below the size that glibc takes from the system by itself
kept = blocks[-1]  # at the top of the arena, so that all below it stays
assert resident_bytes() - before > 60 * MIB
del blocks
left = resident_bytes() - before
assert heap.trim() is True
print(left // MIB, (resident_bytes() - before) // MIB, heap.trim())
"""


def test_free_memory_is_returned_to_the_system_once() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60, check=True)
    if done.stdout == "no glibc\n":
        pytest.skip("another C library")
    left, after, again = done.stdout.split()
    assert int(left) > 50, "or glibc needs no telling any more"
    assert int(after) < 5
    assert again == "False"
