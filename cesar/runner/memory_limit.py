"""How much memory a recogniser may take, and who goes first when the machine has none left (Linux).

A hostile or broken recording can make a decoder ask for any amount. The limit turns that into an error of this one
recording, and the system's choice falls on the recogniser, not on the service or on what else runs here.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path

from cesar.engines.hardware import Plan, total_memory

OUT_OF_MEMORY = (
    "MemoryError",
    "bad_alloc",
    "llocate memory",  # "Cannot allocate memory", "Failed to allocate memory"
    "Failed to allocate",
    "out of memory",
    "can't start new thread",
)
"""What libraries and the C++ runtime say when there is no memory left."""
_HIGHEST_OOM_SCORE = "1000"
"""The highest oom_score_adj there is: proc_pid_oom_score_adj(5)."""
_ANY_RECORDING_BYTES = 2**30
"""For decoding and for what an odd recording takes beyond it. The usual ones take a tenth."""
_WINDOW_BYTES = 32 * 2**20
"""For a worker's features, logits and texts."""


def raise_oom_score() -> None:
    """Make this process the first that the system ends when memory runs out."""
    if sys.platform == "linux":
        with suppress(OSError):
            Path("/proc/self/oom_score_adj").write_text(_HIGHEST_OOM_SCORE, encoding="ascii")


def limit_memory(plan: Plan, model_bytes: int) -> None:
    """Limit what this process may take from now on, the model being loaded; what lies on a card does not count.

    Only data counts (RLIMIT_DATA): libraries reserve addresses by the gigabyte that they never use.
    """
    if sys.platform != "linux" or plan.device != "cpu":
        return
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    limit = allowance(plan, model_bytes, _data_bytes(), total_memory())
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_DATA, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))


def allowance(plan: Plan, model_bytes: int, loaded_bytes: int, machine_bytes: int) -> int:
    """Return how many bytes of data a recogniser may have: ample for its work, and no more than the machine has.

    model_bytes: the size of the weights. loaded_bytes: what it has taken when the model is loaded.
    """
    batch = plan.batch_size * model_bytes // 8  # see `hardware.choose`
    work = plan.workers * (2 * batch + model_bytes // 2 + _WINDOW_BYTES)
    return max(min(loaded_bytes + work + _ANY_RECORDING_BYTES, machine_bytes), loaded_bytes + _ANY_RECORDING_BYTES // 2)


def _data_bytes() -> int:
    """Return the data of this process as RLIMIT_DATA counts it."""
    with suppress(OSError, ValueError, IndexError):
        lines = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmData:"))
    return _ANY_RECORDING_BYTES
