"""What this machine has (`probe`), and what to run on it (`choose`, which is pure)."""

from __future__ import annotations

import math
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from cesar.errors import DeviceUnavailable

_MOST_WORKERS = 8
"""On a processor. They read the same weights, so memory's speed is the limit beyond a few."""
_USUAL_MEMORY = 4 * 2**30
"""What is taken to be free where the system doesn't tell."""


@dataclass(frozen=True, slots=True)
class Hardware:
    """What was found."""

    cores: int
    """Processor cores this process may use."""
    cuda_devices: int
    compute_types: dict[str, frozenset[str]]
    """By device: what CTranslate2 can compute with there."""
    memory: dict[str, int]
    """By device: bytes that are free."""
    has_int8_products: bool = False
    """The processor multiplies int8 by uint8, and sums up, in one instruction that can't overflow."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How the model is to be run."""

    device: str
    compute_type: str
    workers: int
    """Windows worked on at the same time."""
    threads_per_worker: int
    batch_size: int
    """Windows of 15 s greedily decoded together by one worker; longer ones, and wider searches, are fewer."""
    warnings: tuple[str, ...] = ()
    own_decoder: bool = False
    """Greedy search runs on a decoder of our own: in int8, where the processor is good at it."""


def probe() -> Hardware:
    """Look at the machine. Imports CTranslate2, so it belongs into the child process."""
    import ctranslate2

    devices = ctranslate2.get_cuda_device_count()
    names = ["cpu", "cuda"] if devices else ["cpu"]
    return Hardware(
        cores=usable_cores(),
        cuda_devices=devices,
        compute_types={name: frozenset(ctranslate2.get_supported_compute_types(name)) for name in names},
        memory={name: _free_on_card() if name == "cuda" else _free_memory() for name in names},
        has_int8_products=_has_int8_products(),
    )


def use_wide_vectors() -> None:
    """Have CTranslate2 use AVX-512 where the processor is one that doesn't slow down for it; call before its import.

    By itself it takes AVX2 on AMD's. Worth 8 to 14 % of the encoder (docs/benchmarks.md).
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
    """Cores that this process may use: by its affinity mask, and by the quota of its container."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(allowed, _quota() or allowed))


def _quota() -> int | None:
    """The processor quota of a Linux control group (version 2) in whole cores, rounded up."""
    try:
        share, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii").split()
        return math.ceil(int(share) / int(period))
    except (OSError, ValueError):  # no such file, or "max"
        return None


def _free_memory() -> int:
    """Bytes that this process may still take, by the machine and by its control group."""
    free = [_USUAL_MEMORY]
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
    """Bytes that this machine, or the control group that we are in, has in all."""
    total = [_USUAL_MEMORY]
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        total = [int(line.split()[1]) * 1024 for line in lines if line.startswith(("MemTotal:", "SwapTotal:"))] or total
        total = [sum(total)]
        total.append(int(Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii")))
    except (OSError, ValueError):  # no such file, or "max"
        pass
    return min(total)


def _free_on_card() -> int:
    """Bytes free on the first card, by NVIDIA's own tool. Not run on a GPU yet."""
    command = ["nvidia-smi", "--query-gpu=memory.free", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout
        return int(answer.split()[0]) * 2**20
    except (OSError, ValueError, IndexError, subprocess.SubprocessError):
        return _USUAL_MEMORY


def choose(hardware: Hardware, *, device: str, compute_type: str, workers: int | None, model_bytes: int) -> Plan:
    """Decide how to run a model of that size. `auto` takes what is fastest here; anything else is taken or refused.

    Raises `DeviceUnavailable`.
    """
    chosen = ("cuda" if hardware.cuda_devices else "cpu") if device == "auto" else device
    if chosen not in hardware.compute_types:
        raise DeviceUnavailable("there is no CUDA device here that CTranslate2 can use")
    available = hardware.compute_types[chosen]
    wanted = _fastest(chosen, available) if compute_type == "auto" else compute_type
    if wanted not in available:
        raise DeviceUnavailable(
            f"{chosen} here can't compute with {wanted}",
            hint=f"Use one of {', '.join(sorted(available))}, or leave --compute-type out.",
        )
    free = hardware.memory[chosen]
    if chosen == "cuda":  # not run on a GPU yet: one worker keeps the card busy by its batches
        count = workers or 1
        return Plan("cuda", wanted, count, 1, _batch_size(free - 2 * model_bytes, count, model_bytes, most=32))
    # One thread a worker: two workers of one thread do 1.2 to 2 times the work of one with two.
    count = workers or min(hardware.cores, _MOST_WORKERS)
    batch_size = _batch_size(free // 4, count, model_bytes, most=8)
    own_decoder = hardware.has_int8_products and wanted in {"int8", "int8_float32"}
    return Plan("cpu", wanted, count, 1, batch_size, own_decoder=own_decoder)


def _batch_size(memory: int, workers: int, model_bytes: int, *, most: int) -> int:
    """How many windows each worker can decode together in so much memory.

    A window's keys and values for cross-attention take about an eighth of a Whisper model's size in float16, whatever
    the model: 9 MB with tiny, 245 MB with large-v3 (15 s). Beyond 8 of them a processor gains little.
    """
    return max(1, min(most, memory // workers // max(1, model_bytes // 8)))


def _fastest(device: str, available: frozenset[str]) -> str:
    order = ("float16", "int8_float16", "int8", "float32") if device == "cuda" else ("int8", "float32")
    return next((name for name in order if name in available), "float32")
