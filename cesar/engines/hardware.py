"""What this machine has (`probe`), and what to run on it (`choose`, which is pure)."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path

from cesar.errors import DeviceUnavailable


@dataclass(frozen=True, slots=True)
class Hardware:
    """What was found."""

    cores: int
    """Processor cores this process may use."""
    cuda_devices: int
    compute_types: dict[str, frozenset[str]]
    """By device: what CTranslate2 can compute with there."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How the model is to be run."""

    device: str
    compute_type: str
    workers: int
    """Windows worked on at the same time."""
    threads_per_worker: int
    batch_size: int
    """Windows decoded together by one worker."""
    warnings: tuple[str, ...] = ()


def probe() -> Hardware:
    """Look at the machine. Imports CTranslate2, so it belongs into the child process."""
    import ctranslate2

    devices = ctranslate2.get_cuda_device_count()
    names = ["cpu", "cuda"] if devices else ["cpu"]
    return Hardware(
        cores=usable_cores(),
        cuda_devices=devices,
        compute_types={name: frozenset(ctranslate2.get_supported_compute_types(name)) for name in names},
    )


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


def choose(hardware: Hardware, *, device: str, compute_type: str, workers: int | None) -> Plan:
    """Decide how to run. `auto` takes what is fastest here; anything else is taken at its word or refused.

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
    if chosen == "cuda":  # not run on a GPU yet: one worker keeps the card busy by its batches
        return Plan("cuda", wanted, workers or 1, 1, batch_size=16)
    # One thread a worker: two workers of one thread do 1.2 to 1.6 times the work of one with two.
    return Plan("cpu", wanted, workers or min(hardware.cores, 8), 1, batch_size=4)


def _fastest(device: str, available: frozenset[str]) -> str:
    order = ("float16", "int8_float16", "int8", "float32") if device == "cuda" else ("int8", "float32")
    return next((name for name in order if name in available), "float32")
