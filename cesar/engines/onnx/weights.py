"""The variables of a model in CTranslate2's format, read from its file (ctranslate2, `specs/model_spec.py`)."""

from __future__ import annotations

import mmap
import struct
from pathlib import Path

import numpy as np

from cesar.engines.onnx.graph import Array, Floats

_FORMAT_VERSION = 6
_TYPES = ("float32", "int8", "int16", "int32", "float16", "bfloat16")


class Variables:
    """The variables of a `model.bin`, by name. The file is memory-mapped and read on use.

    Raises `OSError`, or `ValueError` if the file has another format.
    """

    def __init__(self, path: Path) -> None:
        with path.open("rb") as file:
            self._file = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self._at = 0
        self._found: dict[str, Array | None] = {}
        try:
            self._read()
        except (struct.error, IndexError, KeyError, UnicodeDecodeError) as error:
            raise ValueError(f"{path.name} can't be read: {error}") from error

    def __contains__(self, name: str) -> bool:
        return name in self._found

    def stored(self, name: str) -> Array:
        """Return a variable as stored in the file.

        Raises `ValueError` if there is no such variable, or NumPy lacks its data type.
        """
        if (array := self._found.get(name)) is None:
            raise ValueError(f"the model has no {name} in a known format")
        return array

    def floats(self, name: str) -> Floats:
        """Return a floating-point variable as float32.

        Raises `ValueError` as `stored` does, and if the variable isn't floating-point.
        """
        stored = self.stored(name)
        if stored.dtype.kind != "f":
            raise ValueError(f"{name} is in {stored.dtype}")
        return stored.astype(np.float32)

    def forget(self) -> None:
        """Free the memory of what was read. Later reads are of single rows."""
        if hasattr(self._file, "madvise"):
            self._file.madvise(mmap.MADV_DONTNEED)
            self._file.madvise(mmap.MADV_RANDOM)

    def _read(self) -> None:
        if (version := self._number("I")) != _FORMAT_VERSION:
            raise ValueError(f"version {version} of the format is not supported")
        self._text()
        self._number("I")  # the revision of the model type
        for _ in range(self._number("I")):
            name = self._text()
            shape = [self._number("I") for _ in range(self._number("B"))]
            kind = _TYPES[self._number("B")]
            size = self._number("I")
            if self._at + size > len(self._file):
                raise IndexError(f"it ends within {name}")
            stored = np.frombuffer(self._file, np.uint8, size, self._at)
            self._found[name] = None if kind == "bfloat16" else stored.view(kind).reshape(shape)
            self._at += size
        for _ in range(self._number("I")):
            alias = self._text()
            self._found[alias] = self._found[self._text()]

    def _number(self, form: str) -> int:
        (number,) = struct.unpack_from("<" + form, self._file, self._at)
        self._at += struct.calcsize("<" + form)
        return int(number)

    def _text(self) -> str:
        size = self._number("H")
        self._at += size
        if self._at > len(self._file):
            raise IndexError("it ends within a name")
        return self._file[self._at - size : self._at - 1].decode()
