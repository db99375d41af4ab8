"""The memory limit of a child process, and its priority for the OOM killer (Linux).

A hostile or broken recording can make a decoder request any amount of memory. The limit turns that into an error for
this recording only, and the OOM killer chooses the child, not the service or another program.
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
"""Messages of libraries and the C++ runtime when memory runs out."""
_HIGHEST_OOM_SCORE = "1000"
"""The highest oom_score_adj: proc_pid_oom_score_adj(5)."""
_ANY_RECORDING_BYTES = 2**30
"""For decoding, with a reserve for unusual recordings. Ordinary ones take a tenth."""
_WINDOW_BYTES = 32 * 2**20
"""For the features, logits and texts of a thread."""


def raise_oom_score() -> None:
    """Make this process the first that the system kills when memory runs out."""
    if sys.platform == "linux":
        with suppress(OSError):
            Path("/proc/self/oom_score_adj").write_text(_HIGHEST_OOM_SCORE, encoding="ascii")


def limit_memory(plan: Plan, model_bytes: int) -> None:
    """Limit the memory of this process, whose model is loaded; GPU memory does not count.

    Only data counts (RLIMIT_DATA): libraries reserve gigabytes of address space that they never use.
    """
    if sys.platform != "linux" or plan.device != "cpu":
        return
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    limit = allowance(plan, model_bytes, _data_bytes(), total_memory())
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_DATA, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))


def allowance(plan: Plan, model_bytes: int, loaded_bytes: int, machine_bytes: int) -> int:
    """Return the memory limit in bytes of data: ample for the work, but at most what the machine has.

    model_bytes: the size of the weights. loaded_bytes: the memory in use once the model is loaded.
    """
    batch = plan.batch_size * model_bytes // 8  # see `hardware.choose`
    work = plan.workers * (2 * batch + model_bytes // 2 + _WINDOW_BYTES)
    return max(min(loaded_bytes + work + _ANY_RECORDING_BYTES, machine_bytes), loaded_bytes + _ANY_RECORDING_BYTES // 2)


def _data_bytes() -> int:
    """Return the size of this process's data as counted by RLIMIT_DATA."""
    with suppress(OSError, ValueError, IndexError):
        lines = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmData:"))
    return _ANY_RECORDING_BYTES
