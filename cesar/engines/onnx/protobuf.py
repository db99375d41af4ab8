"""Writes and reads ONNX models as Protocol Buffers, with the field numbers of onnx/onnx, `onnx.proto`.

The `onnx` package does the same, but importing it takes 0.1 s, a sixth of a whole run over five seconds of speech.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

IR_VERSION = 10
_TYPES = {"float32": 1, "uint8": 2, "int8": 3, "int32": 6, "int64": 7}
_KINDS = {number: name for name, number in _TYPES.items()}
_FLOAT, _INT, _INTS = 1, 2, 7
"""Types of attributes."""
_EXTERNAL = 1

Attribute = int | float | Sequence[int]


def type_of(kind: npt.DTypeLike) -> int:
    """Return ONNX's number for a data type."""
    return _TYPES[np.dtype(kind).name]


def node(
    operator: str,
    inputs: Iterable[str],
    outputs: Iterable[str],
    *,
    domain: str = "",
    attributes: Mapping[str, Attribute] | None = None,
) -> bytes:
    """Return one operator applied to named values."""
    parts = [_field(1, name) for name in inputs] + [_field(2, name) for name in outputs]
    parts += [_field(4, operator), _field(7, domain)]
    parts += [_field(5, _attribute(name, value)) for name, value in (attributes or {}).items()]
    return b"".join(parts)


def tensor(name: str, array: npt.NDArray[Any], *, is_elsewhere: bool = False) -> bytes:
    """Return a constant; is_elsewhere: its data is passed to onnxruntime separately."""
    parts = [_field(1, length) for length in array.shape]
    parts += [_field(2, type_of(array.dtype)), _field(8, name)]
    if is_elsewhere:
        parts += [_field(13, _field(1, "location") + _field(2, "memory")), _field(14, _EXTERNAL)]
    else:
        parts.append(_field(9, array.tobytes()))
    return b"".join(parts)


def value(name: str, kind: npt.DTypeLike, shape: Sequence[int | str] | None = None) -> bytes:
    """Return an input or output. Dimensions that vary from run to run are named."""
    form = _field(1, type_of(kind))
    if shape is not None:
        form += _field(2, b"".join(_field(1, _field(2 if isinstance(one, str) else 1, one)) for one in shape))
    return _field(1, name) + _field(2, _field(1, form))


def model(
    *,
    nodes: Iterable[bytes],
    inputs: Iterable[bytes],
    outputs: Iterable[bytes],
    constants: Iterable[bytes] = (),
    opsets: Mapping[str, int],
) -> bytes:
    """Return a whole model; opsets: version of each domain's operators, "" for ONNX's own."""
    graph = [_field(1, one) for one in nodes] + [_field(2, "network")] + [_field(5, one) for one in constants]
    graph += [_field(11, one) for one in inputs] + [_field(12, one) for one in outputs]
    known = [_field(8, _field(1, domain) + _field(2, version)) for domain, version in opsets.items()]
    return b"".join([_field(1, IR_VERSION), _field(7, b"".join(graph)), *known])


def constants(model: bytes) -> dict[str, npt.NDArray[Any]]:
    """Return the constants stored in the model itself, by name, read-only."""
    _, parts = _read(model)
    _, graph = _read(parts[7][0])
    found: dict[str, npt.NDArray[Any]] = {}
    for constant in graph.get(5, []):
        numbers, contents = _read(constant)
        name, values = contents[8][0].decode(), np.frombuffer(contents[9][0], _KINDS[numbers[2][0]])
        found[name] = values.reshape(numbers.get(1, []))
    return found


def _attribute(name: str, value: Attribute) -> bytes:
    if isinstance(value, int):
        return _field(1, name) + _field(3, value) + _field(20, _INT)
    if isinstance(value, float):
        return _field(1, name) + _field(2, value) + _field(20, _FLOAT)
    return _field(1, name) + b"".join(_field(8, one) for one in value) + _field(20, _INTS)


def _field(number: int, value: float | str | bytes) -> bytes:
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    if isinstance(value, float):
        return _varint(number << 3 | 5) + struct.pack("<f", value)
    content = value.encode() if isinstance(value, str) else value
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _varint(number: int) -> bytes:
    left = number & (1 << 64) - 1  # negative numbers are encoded as 64-bit two's complement
    parts = bytearray()
    while left > 127:
        parts.append(left & 127 | 128)
        left >>= 7
    parts.append(left)
    return bytes(parts)


def _read(message: bytes) -> tuple[dict[int, list[int]], dict[int, list[bytes]]]:
    """Return the fields of a message by number: integers, and length-delimited fields."""
    numbers: dict[int, list[int]] = {}
    contents: dict[int, list[bytes]] = {}
    at = 0
    while at < len(message):
        key, at = _read_varint(message, at)
        value, at = _read_varint(message, at)
        if key & 7 == 0:
            numbers.setdefault(key >> 3, []).append(value)
        elif key & 7 == 2:
            contents.setdefault(key >> 3, []).append(message[at : at + value])
            at += value
        else:
            raise ValueError(f"field {key >> 3} has an unsupported wire type")
    return numbers, contents


def _read_varint(message: bytes, at: int) -> tuple[int, int]:
    """Return a number and the offset after it."""
    number = shift = 0
    while True:
        byte = message[at]
        number |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return number, at
