"""Hardware detection (`probe`) and the choice of how to run a model on it (`choose`, a pure function)."""

from __future__ import annotations

import math
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from cesar.errors import DeviceUnavailable

_MAX_WORKERS = 8
"""On the CPU. Workers read the same weights, so beyond a few, memory bandwidth is the limit."""
_ASSUMED_MEMORY = 4 * 2**30
"""Bytes assumed to be free if the system doesn't report it."""


@dataclass(frozen=True, slots=True)
class Hardware:
    """The hardware of this machine."""

    cores: int
    """CPU cores this process may use."""
    cuda_devices: int
    compute_types: dict[str, frozenset[str]]
    """By device: the compute types CTranslate2 supports."""
    memory: dict[str, int]
    """By device: free bytes."""
    has_int8_products: bool = False
    """The CPU multiplies int8 by uint8 and accumulates in one instruction that can't overflow."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How to run the model."""

    device: str
    compute_type: str
    workers: int
    """Batches decoded at the same time."""
    threads_per_worker: int
    batch_size: int
    """Windows of 15 s that one worker decodes greedily together; fewer for longer windows or beam search."""
    warnings: tuple[str, ...] = ()
    own_decoder: bool = False
    """Greedy search uses our own decoder: for int8, on CPUs with fast int8 products."""


def probe() -> Hardware:
    """Detect the hardware. Imports CTranslate2, so call it in the child process."""
    import ctranslate2

    devices = ctranslate2.get_cuda_device_count()
    names = ["cpu", "cuda"] if devices else ["cpu"]
    return Hardware(
        cores=usable_cores(),
        cuda_devices=devices,
        compute_types={name: frozenset(ctranslate2.get_supported_compute_types(name)) for name in names},
        memory={name: _free_gpu_memory() if name == "cuda" else _free_memory() for name in names},
        has_int8_products=_has_int8_products(),
    )


def use_wide_vectors() -> None:
    """Make CTranslate2 use AVX-512 on CPUs that don't throttle with it; call before importing it.

    On AMD it chooses AVX2 by default. AVX-512 saves 8 to 14 % of the encoder's time (docs/benchmarks.md).
    """
    if _has_int8_products():
        os.environ.setdefault("CT2_FORCE_CPU_ISA", "AVX512")


def _has_int8_products() -> bool:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return False
    return "avx512_vnni" in next((line for line in lines if line.startswith("flags")), "").split()


def usable_cores() -> int:
    """Return the number of cores this process may use, by its affinity mask and its container's quota."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(allowed, _cpu_quota() or allowed))


def _cpu_quota() -> int | None:
    """Return the CPU quota of the Linux control group (version 2) in whole cores, rounded up."""
    try:
        share, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii").split()
        return math.ceil(int(share) / int(period))
    except (OSError, ValueError):  # no such file, or "max"
        return None


def _free_memory() -> int:
    """Return the bytes this process may still allocate, limited by the machine and its control group."""
    free = [_ASSUMED_MEMORY]
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        free = [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")] or free
        limit = Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii")
        used = Path("/sys/fs/cgroup/memory.current").read_text(encoding="ascii")
        free.append(int(limit) - int(used))
    except (OSError, ValueError):  # no such file, or "max"
        pass
    return max(0, min(free))


def total_memory() -> int:
    """Return the total memory of this machine or of our control group, in bytes."""
    total = [_ASSUMED_MEMORY]
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        total = [int(line.split()[1]) * 1024 for line in lines if line.startswith(("MemTotal:", "SwapTotal:"))] or total
        total = [sum(total)]
        total.append(int(Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii")))
    except (OSError, ValueError):  # no such file, or "max"
        pass
    return min(total)


def _free_gpu_memory() -> int:
    """Return the free bytes of the first GPU, from nvidia-smi. Not run on a GPU yet."""
    command = ["nvidia-smi", "--query-gpu=memory.free", "--format=csv,noheader,nounits"]
    try:
        output = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout
        return int(output.split()[0]) * 2**20
    except (OSError, ValueError, IndexError, subprocess.SubprocessError):
        return _ASSUMED_MEMORY


def choose(hardware: Hardware, *, device: str, compute_type: str, workers: int | None, model_bytes: int) -> Plan:
    """Choose how to run a model of that size. `auto` selects the fastest option; any other value must be supported.

    Raises `DeviceUnavailable`.
    """
    chosen = ("cuda" if hardware.cuda_devices else "cpu") if device == "auto" else device
    if chosen not in hardware.compute_types:
        raise DeviceUnavailable("there is no CUDA device that CTranslate2 can use")
    available = hardware.compute_types[chosen]
    wanted = _fastest(chosen, available) if compute_type == "auto" else compute_type
    if wanted not in available:
        raise DeviceUnavailable(
            f"{chosen} here can't compute with {wanted}",
            hint=f"Use one of {', '.join(sorted(available))}, or leave --compute-type out.",
        )
    free = hardware.memory[chosen]
    if chosen == "cuda":  # not run on a GPU yet: one worker keeps the GPU busy with its batches
        count = workers or 1
        return Plan("cuda", wanted, count, 1, _batch_size(free - 2 * model_bytes, count, model_bytes, limit=32))
    # One thread per worker: two workers of one thread do 1.2 to 2 times the work of one worker with two threads.
    count = workers or min(hardware.cores, _MAX_WORKERS)
    batch_size = _batch_size(free // 4, count, model_bytes, limit=8)
    own_decoder = hardware.has_int8_products and wanted in {"int8", "int8_float32"}
    return Plan("cpu", wanted, count, 1, batch_size, own_decoder=own_decoder)


def _batch_size(memory: int, workers: int, model_bytes: int, *, limit: int) -> int:
    """Return how many windows each worker can decode together in this much memory.

    A window's keys and values for cross-attention take about an eighth of a Whisper model's size in float16, for any
    model: 9 MB with tiny, 245 MB with large-v3 (15 s). On the CPU, more than 8 windows gain little.
    """
    return max(1, min(limit, memory // workers // max(1, model_bytes // 8)))


def _fastest(device: str, available: frozenset[str]) -> str:
    order = ("float16", "int8_float16", "int8", "float32") if device == "cuda" else ("int8", "float32")
    return next((name for name in order if name in available), "float32")
