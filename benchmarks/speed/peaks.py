"""The machine's peak computation and memory bandwidth: `python -m benchmarks.speed.peaks`, JSON.

Products of large square matrices with onnxruntime, in float32 and in int8 (with VNNI where available), and copies with
numpy, one thread per core; the best of several runs.
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

from cesar.engines.onnx import protobuf

SIZE, COPIED_BYTES, TIMES = 2048, 256_000_000, 5


def main() -> None:
    random = np.random.default_rng(0)
    floats = random.standard_normal((SIZE, SIZE), np.float32)
    bytes_a, bytes_b = (
        random.integers(0, 255, (SIZE, SIZE), np.uint8),
        random.integers(-127, 127, (SIZE, SIZE), np.int8),
    )
    operations = 2 * SIZE**3
    found = {
        "float32_gops": operations / seconds(product("MatMul", floats, floats, np.float32)) / 1e9,
        "int8_gops": operations / seconds(product("MatMulInteger", bytes_a, bytes_b, np.int32)) / 1e9,
        "copy_gb_s": copied_gb_s(),
    }
    print(json.dumps({name: round(value, 1) for name, value in found.items()}))


def seconds(work: Callable[[], object]) -> float:
    """Return the shortest of several times, after a warm-up."""
    work()
    taken = []
    for _ in range(TIMES):
        begun = time.perf_counter()
        work()
        taken.append(time.perf_counter() - begun)
    return min(taken)


def product(
    operator: str, a: npt.NDArray[np.generic], b: npt.NDArray[np.generic], result: npt.DTypeLike
) -> Callable[[], object]:
    """Return a product of two matrices with onnxruntime, one thread per core."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = os.cpu_count() or 1
    session = onnxruntime.InferenceSession(model(operator, a, b, result), options, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, {"a": a, "b": b})


def copied_gb_s() -> float:
    """Return the bytes read and written per second by copies larger than any cache."""
    cores = os.cpu_count() or 1
    pairs = [(np.ones(COPIED_BYTES, np.uint8), np.empty(COPIED_BYTES, np.uint8)) for _ in range(cores)]
    with ThreadPoolExecutor(cores) as threads:
        taken = seconds(lambda: list(threads.map(lambda pair: np.copyto(pair[1], pair[0]), pairs)))
    return 2 * cores * COPIED_BYTES / taken / 1e9


def model(operator: str, a: npt.NDArray[np.generic], b: npt.NDArray[np.generic], result: npt.DTypeLike) -> bytes:
    """Return an ONNX model of one operator, c = operator(a, b)."""
    return protobuf.model(
        nodes=[protobuf.node(operator, ["a", "b"], ["c"])],
        inputs=[protobuf.value("a", a.dtype, a.shape), protobuf.value("b", b.dtype, b.shape)],
        outputs=[protobuf.value("c", result, (len(a), b.shape[1]))],
        opsets={"": 17},
    )


if __name__ == "__main__":
    main()
