"""The most that this machine computes and moves: `python -m benchmarks.speed.peaks`, JSON.

Products of large square matrices by onnxruntime, in float32 and in int8 (VNNI where there is such), and copies by
numpy, a thread a core; the best of several.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt
import onnxruntime

SIZE, COPIED_BYTES, TIMES = 2048, 256_000_000, 5
_FLOAT32, _UINT8, _INT8, _INT32 = 1, 2, 3, 6
"""Numbers of the element types in ONNX."""


def main() -> None:
    random = np.random.default_rng(0)
    floats = random.standard_normal((SIZE, SIZE), np.float32)
    bytes_a, bytes_b = (
        random.integers(0, 255, (SIZE, SIZE), np.uint8),
        random.integers(-127, 127, (SIZE, SIZE), np.int8),
    )
    operations = 2 * SIZE**3
    found = {
        "float32_gops": operations / seconds(product("MatMul", (_FLOAT32, _FLOAT32, _FLOAT32), floats, floats)) / 1e9,
        "int8_gops": operations / seconds(product("MatMulInteger", (_UINT8, _INT8, _INT32), bytes_a, bytes_b)) / 1e9,
        "copy_gb_s": copied_gb_s(),
    }
    print(json.dumps({name: round(value, 1) for name, value in found.items()}))


def seconds(work: Callable[[], object]) -> float:
    """The shortest of several times, after one to warm up."""
    work()
    taken = []
    for _ in range(TIMES):
        begun = time.perf_counter()
        work()
        taken.append(time.perf_counter() - begun)
    return min(taken)


def product(
    operator: str, types: tuple[int, int, int], a: npt.NDArray[np.generic], b: npt.NDArray[np.generic]
) -> Callable[[], object]:
    """A product of two matrices by onnxruntime, a thread a core."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = os.cpu_count() or 1
    session = onnxruntime.InferenceSession(model(operator, types), options, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, {"a": a, "b": b})


def copied_gb_s() -> float:
    """Bytes read and written a second, by copies that no cache holds."""
    cores = os.cpu_count() or 1
    pairs = [(np.ones(COPIED_BYTES, np.uint8), np.empty(COPIED_BYTES, np.uint8)) for _ in range(cores)]
    with ThreadPoolExecutor(cores) as threads:
        taken = seconds(lambda: list(threads.map(lambda pair: np.copyto(pair[1], pair[0]), pairs)))
    return 2 * cores * COPIED_BYTES / taken / 1e9


def model(operator: str, types: tuple[int, int, int]) -> bytes:
    """An ONNX model of one operator, c = operator(a, b), as its Protocol Buffers (onnx.proto) have it."""
    node = _field(1, b"a") + _field(1, b"b") + _field(2, b"c") + _field(4, operator.encode())
    a, b, c = (_value(name, kind) for name, kind in zip(("a", "b", "c"), types, strict=True))
    graph = _field(1, node) + _field(2, b"product") + _field(11, a) + _field(11, b) + _field(12, c)
    return _number(1, 8) + _field(7, graph) + _field(8, _number(2, 17))  # forms 8 and 17: of 2022


def _value(name: str, kind: int) -> bytes:
    sides = _field(1, _number(1, SIZE)) * 2
    return _field(1, name.encode()) + _field(2, _field(1, _number(1, kind) + _field(2, sides)))


def _field(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _number(number: int, value: int) -> bytes:
    return _varint(number << 3) + _varint(value)


def _varint(value: int) -> bytes:
    return bytes([value]) if value < 128 else bytes([value & 127 | 128]) + _varint(value >> 7)


if __name__ == "__main__":
    main()
