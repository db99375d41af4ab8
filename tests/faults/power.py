"""Records what SQLite does to its files.

`interpose` puts itself between SQLite and the operating system, by a VFS of our own around SQLite's default one: each
write, truncation, sync, creation and deletion of a database, journal or write-ahead log passes through it. The
write-ahead log's index (`-shm`) is left out: SQLite makes it anew. What a power cut could leave is in `disk`.
"""

from __future__ import annotations

import _sqlite3
import ctypes
import os
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import closing
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest

_WATCHED = 0x100 | 0x800 | 0x4000 | 0x80000  # SQLITE_OPEN_MAIN_DB, _MAIN_JOURNAL, _SUPER_JOURNAL, _WAL
_MAY_CREATE = 0x4  # SQLITE_OPEN_CREATE
_int, _long, _pointer = ctypes.c_int, ctypes.c_int64, ctypes.c_void_p
_OPEN = ctypes.CFUNCTYPE(_int, _pointer, _pointer, _pointer, _int, _pointer)
_DELETE = ctypes.CFUNCTYPE(_int, _pointer, _pointer, _int)
_CLOSE = ctypes.CFUNCTYPE(_int, _pointer)
_WRITE = ctypes.CFUNCTYPE(_int, _pointer, _pointer, _int, _long)
_TRUNCATE = ctypes.CFUNCTYPE(_int, _pointer, _long)
_SYNC = ctypes.CFUNCTYPE(_int, _pointer, _int)
_OPEN_FOLDER = ctypes.CFUNCTYPE(_int, _pointer, _pointer)
_SET_CALL = ctypes.CFUNCTYPE(_int, _pointer, ctypes.c_char_p, _pointer)
_GET_CALL = ctypes.CFUNCTYPE(_pointer, _pointer, ctypes.c_char_p)


class Op(NamedTuple):
    """One operation on a file, or on a folder (`sync folder`); `at` is a write's offset or a truncation's size."""

    kind: str
    path: str
    at: int = 0
    data: bytes = b""


Before = Callable[[Op], int]
"""Called before each operation: 0 allows it, another number is the SQLite error with which it fails."""


class _Vfs(ctypes.Structure):
    """sqlite3_vfs (https://sqlite.org/c3ref/vfs.html)."""

    _fields_ = (
        ("iVersion", _int),
        ("szOsFile", _int),
        ("mxPathname", _int),
        ("pNext", _pointer),
        ("zName", ctypes.c_char_p),
        ("pAppData", _pointer),
        ("xOpen", _pointer),
        ("xDelete", _pointer),
        *((name, _pointer) for name in ("xAccess", "xFullPathname", "xDlOpen", "xDlError", "xDlSym", "xDlClose")),
        *((name, _pointer) for name in ("xRandomness", "xSleep", "xCurrentTime", "xGetLastError")),
        ("xCurrentTimeInt64", _pointer),
        *((name, _pointer) for name in ("xSetSystemCall", "xGetSystemCall", "xNextSystemCall")),
    )


class _Methods(ctypes.Structure):
    """sqlite3_io_methods (https://sqlite.org/c3ref/io_methods.html)."""

    _fields_ = (
        ("iVersion", _int),
        *((name, _pointer) for name in ("xClose", "xRead", "xWrite", "xTruncate", "xSync", "xFileSize", "xLock")),
        *((name, _pointer) for name in ("xUnlock", "xCheckReservedLock", "xFileControl", "xSectorSize")),
        *((name, _pointer) for name in ("xDeviceCharacteristics", "xShmMap", "xShmLock", "xShmBarrier")),
        *((name, _pointer) for name in ("xShmUnmap", "xFetch", "xUnfetch")),
    )


class _Shim:
    """A VFS around the default one. It lives as long as the process: SQLite keeps pointers into it."""

    def __init__(self, library: ctypes.CDLL, before: Before) -> None:
        library.sqlite3_vfs_find.restype = _pointer
        library.sqlite3_vfs_find.argtypes = [ctypes.c_char_p]
        library.sqlite3_vfs_register.argtypes = [_pointer, _int]
        self._before = before
        self._default = library.sqlite3_vfs_find(None)
        self._original = _Vfs.from_address(self._default)
        self._vfs = _Vfs()
        ctypes.memmove(ctypes.byref(self._vfs), self._default, ctypes.sizeof(_Vfs))
        self._vfs.zName = b"cesar-watched"
        self._kept: list[Any] = []
        self._paths: dict[int, str] = {}
        self._methods: dict[int, _Methods] = {}
        self._vfs.xOpen = self._callback(_OPEN, self._open)
        self._vfs.xDelete = self._callback(_DELETE, self._delete)
        self._watch_folders()
        library.sqlite3_vfs_register(ctypes.byref(self._vfs), 1)

    def _callback(self, kind: Any, function: Callable[..., int]) -> int | None:
        made = kind(function)
        self._kept.append(made)
        return ctypes.cast(made, _pointer).value

    def _watch_folders(self) -> None:
        """SQLite syncs a folder right after opening it for that, and opens none for anything else."""
        original = _OPEN_FOLDER(_GET_CALL(self._original.xGetSystemCall)(self._default, b"openDirectory"))

        def open_folder(path: int, descriptor: int) -> int:
            opened = int(original(path, descriptor))
            self._before(Op("sync folder", str(Path(_text(path)).parent)))
            return opened

        made = self._callback(_OPEN_FOLDER, open_folder)
        _SET_CALL(self._original.xSetSystemCall)(self._default, b"openDirectory", made)

    def _open(self, _vfs: int, name: int | None, file: int, flags: int, told: int | None) -> int:
        watched = name is not None and flags & _WATCHED
        path = _text(name) if name is not None else ""
        is_made = watched and flags & _MAY_CREATE and not Path(path).exists()
        if is_made and (error := self._before(Op("create", path))):
            return error
        result: int = _OPEN(self._original.xOpen)(self._default, name, file, flags, told)
        if watched and result == 0:
            methods = _pointer.from_address(file)
            assert methods.value is not None
            self._paths[file] = path
            methods.value = ctypes.addressof(self._watched(methods.value))
        return result

    def _delete(self, _vfs: int, name: int, sync_folder: int) -> int:
        if error := self._before(Op("delete", _text(name))):
            return error
        return int(_DELETE(self._original.xDelete)(self._default, name, sync_folder))

    def _watched(self, address: int) -> _Methods:
        """Return the file methods at that address, with those that change a file replaced by ours."""
        if address in self._methods:
            return self._methods[address]
        original = _Methods.from_address(address)
        write, truncate = _WRITE(original.xWrite), _TRUNCATE(original.xTruncate)
        sync, close = _SYNC(original.xSync), _CLOSE(original.xClose)

        def do_write(file: int, data: int, size: int, at: int) -> int:
            error = self._before(Op("write", self._paths[file], at, ctypes.string_at(data, size)))
            return error or int(write(file, data, size, at))

        def do_truncate(file: int, size: int) -> int:
            return self._before(Op("truncate", self._paths[file], size)) or int(truncate(file, size))

        def do_sync(file: int, flags: int) -> int:
            return self._before(Op("sync", self._paths[file])) or int(sync(file, flags))

        def do_close(file: int) -> int:
            self._paths.pop(file, None)
            return int(close(file))

        ours = _Methods()
        ctypes.memmove(ctypes.byref(ours), address, ctypes.sizeof(_Methods))
        ours.xWrite = self._callback(_WRITE, do_write)
        ours.xTruncate = self._callback(_TRUNCATE, do_truncate)
        ours.xSync = self._callback(_SYNC, do_sync)
        ours.xClose = self._callback(_CLOSE, do_close)
        self._methods[address] = ours
        return ours


def interpose(before: Before) -> None:
    """Call `before` ahead of everything that SQLite does to a file in this process, from now on."""
    _shims.append(_Shim(ctypes.CDLL(_sqlite3.__file__), before))


def why_not() -> str | None:
    """Return why SQLite can't be watched here (call it in an expendable process); None if it can."""
    seen: list[Op] = []

    def note(op: Op) -> int:
        seen.append(op)
        return 0

    try:
        interpose(note)
    except (AttributeError, OSError) as error:
        return f"Python's SQLite offers no VFS to be wrapped: {error}"
    with tempfile.TemporaryDirectory() as folder, closing(sqlite3.connect(Path(folder, "try.db"))) as connection:
        connection.execute("CREATE TABLE t (x)")
    return None if {op.kind for op in seen} >= {"create", "write", "sync", "delete"} else "SQLite writes past the VFS"


@cache
def require() -> None:
    """Skip the test if SQLite can't be watched, which is tested in a separate process."""
    code = "from tests.faults.power import why_not; print(why_not() or '')"
    root = Path(__file__).parents[2]
    asked = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    if reason := asked.stdout.strip():
        pytest.skip(reason)


_shims: list[_Shim] = []


def _text(pointer: int) -> str:
    return os.fsdecode(ctypes.string_at(pointer))
