"""What a user may set once for every run: `Settings`, and `load`, which finds the values and their origins.

A flag wins over a `CESAR_*` variable, that over the settings file (TOML), that over the default. What one
transcription may ask for is in `cesar.options`.
"""

from __future__ import annotations

import difflib
import math
import os
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import Field, dataclass, field, fields
from pathlib import Path
from typing import Any

import platformdirs

from cesar.errors import UsageError

PREFIX = "CESAR_"
CONFIG_VARIABLE = "CESAR_CONFIG"
DEFAULT = "default"
DEVICES = ("auto", "cpu", "cuda")
COMPUTE_TYPES = (
    "auto",
    "int8",
    "int8_float32",
    "int8_float16",
    "int8_bfloat16",
    "int16",
    "float16",
    "bfloat16",
    "float32",
)

Check = Callable[[object], object]
"""Turns a value, or the text of one, into the setting's type; raises ValueError with what is allowed."""


def _one_of(*allowed: str) -> Check:
    def check(value: object) -> str:
        if isinstance(value, str) and value.lower() in allowed:
            return value.lower()
        raise ValueError(f"one of {', '.join(allowed)}")

    return check


def _text(value: object) -> str:
    if isinstance(value, str) and value.strip():
        return value.strip()
    raise ValueError("a name or a folder")


def _folder(value: object) -> Path:
    if isinstance(value, Path) or (isinstance(value, str) and value.strip()):
        try:
            return Path(value).expanduser()
        except RuntimeError:  # a home that does not exist, as in ~nobody-here/cesar
            pass
    raise ValueError("the path of a folder")


def _database(value: object) -> str | None:
    if value is None:
        return None
    if isinstance(value, (str, Path)) and str(value).strip():
        return str(value).strip()
    raise ValueError("a file's path, or an address such as sqlite:///cesar.db")


def _boolean(value: object) -> bool:
    words = {
        "true": True,
        "yes": True,
        "on": True,
        "1": True,
        "false": False,
        "no": False,
        "off": False,
        "0": False,
    }
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in words:
        return words[value.lower()]
    raise ValueError("true or false")


def _thread_count(value: object) -> int | None:
    if value is None or value == "auto":
        return None
    if isinstance(value, str) and value.isascii() and value.isdigit():
        value = int(value[:5])
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 1024:
        return value
    raise ValueError("a whole number from 1 to 1024, or auto")


def _seconds(value: object) -> float:
    try:
        seconds = math.nan if isinstance(value, bool) else float(value)  # type: ignore[arg-type]  # it may raise
    except (TypeError, ValueError):
        seconds = math.nan
    if math.isfinite(seconds) and seconds > 0:
        return seconds
    raise ValueError("a number of seconds above 0")


def _data_dir() -> Path:
    return platformdirs.user_data_path("cesar", appauthor=False)


def _about(doc: str, check: Check) -> dict[str, Any]:
    return {"doc": doc, "check": check}


@dataclass(frozen=True, slots=True)
class Settings:
    """Every setting, checked when it is made: a value that can't be used is a `UsageError`."""

    model: str = field(
        default="base",
        metadata=_about("The model: a name from `cesar models list`, or the folder of one.", _text),
    )
    device: str = field(
        default="auto",
        metadata=_about("Where recognition runs: auto, cpu or cuda.", _one_of(*DEVICES)),
    )
    compute_type: str = field(
        default="auto",
        metadata=_about("The numbers the model computes with; auto chooses for the device.", _one_of(*COMPUTE_TYPES)),
    )
    data_dir: Path = field(
        default_factory=_data_dir,
        metadata=_about("The folder for what Cesar keeps: models in `models`, jobs in `cesar.db`.", _folder),
    )
    database: str | None = field(
        default=None,
        metadata=_about("The queue's database: a file, or an address; left out: `cesar.db` in data_dir.", _database),
    )
    allow_network_fs: bool = field(
        default=False,
        metadata=_about("Let the database lie on a network file system, for one program at a time.", _boolean),
    )
    shutdown_grace_s: float = field(
        default=8.0,
        metadata=_about("How long a job may go on when the worker is asked to stop, in seconds.", _seconds),
    )
    offline: bool = field(
        default=False,
        metadata=_about("Never use the network, not even when a download is asked for.", _boolean),
    )
    workers: int | None = field(
        default=None,
        metadata=_about("Threads that recognise; left out or auto: chosen from the cores.", _thread_count),
    )
    idle_timeout_s: float = field(
        default=300.0,
        metadata=_about("A warm recogniser process is closed after this many seconds without work.", _seconds),
    )
    stall_timeout_s: float = field(
        default=300.0,
        metadata=_about("A recogniser that makes no progress for this many seconds is killed.", _seconds),
    )
    origins: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)
    """Where each value came from: "flag", the variable's name, the file's path or "default"."""

    def __post_init__(self) -> None:
        for item in _settable():
            value = getattr(self, item.name)
            try:
                object.__setattr__(self, item.name, item.metadata["check"](value))
            except ValueError as wrong:
                origin = f" (from {self.origins[item.name]})" if item.name in self.origins else ""
                raise UsageError(f"{item.name} = {value!r}{origin} can't be used", hint=f"Give {wrong}.") from None

    @property
    def database_place(self) -> str:
        """The queue's database: the file or address that was set, else `cesar.db` in the data folder."""
        return self.database or str(self.data_dir / "cesar.db")

    @property
    def models_dir(self) -> Path:
        """The folder that downloaded and imported models are kept in."""
        return self.data_dir / "models"


def _settable() -> list[Field[Any]]:
    return [item for item in fields(Settings) if "check" in item.metadata]


def documentation() -> dict[str, str]:
    """Give every setting's one-line description by its name, in order."""
    return {item.name: item.metadata["doc"] for item in _settable()}


def load(
    overrides: Mapping[str, object | None] | None = None,
    environ: Mapping[str, str] = os.environ,
    config_file: Path | None = None,
) -> Settings:
    """Gather the settings from flags, environment, settings file and defaults.

    overrides: values given as flags; None means not given.
    config_file: the settings file; else the one that CESAR_CONFIG names, else the user's own, if it is there.
    Raises `UsageError`, naming its origin, for a value that can't be used or a key that does not exist.
    """
    found = _from_file(config_file, environ) | _from_environment(environ) | _from_flags(overrides or {})
    origins = dict.fromkeys(documentation(), DEFAULT) | {key: origin for key, (_, origin) in found.items()}
    values: dict[str, Any] = {key: value for key, (value, _) in found.items()}
    return Settings(**values, origins=origins)


Found = dict[str, tuple[object, str]]
"""Value and origin by the setting's name."""


def _from_flags(overrides: Mapping[str, object | None]) -> Found:
    given = {key: value for key, value in overrides.items() if value is not None}
    _refuse_unknown(given, "flag")
    return {key: (value, "flag") for key, value in given.items()}


def _from_environment(environ: Mapping[str, str]) -> Found:
    variables = {PREFIX + name.upper(): name for name in documentation()}
    # Other CESAR_ variables may belong to other parts, so only what looks like a misspelt setting is refused.
    for key in environ:
        if key.startswith(PREFIX) and key not in variables and key != CONFIG_VARIABLE:
            near = _near(key.removeprefix(PREFIX), [name.upper() for name in variables.values()])
            if near:
                raise UsageError(f"the variable {key} is not a setting", hint=f"Did you mean {PREFIX}{near}?")
    return {name: (environ[key], key) for key, name in variables.items() if environ.get(key)}


def _from_file(config_file: Path | None, environ: Mapping[str, str]) -> Found:
    path = named = config_file or (Path(environ[CONFIG_VARIABLE]) if environ.get(CONFIG_VARIABLE) else None)
    if path is None:
        path = platformdirs.user_config_path("cesar", appauthor=False) / "config.toml"
    try:
        written = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        if named is None:
            return {}
        raise UsageError(f"there is no settings file {path}", hint=f"Check {CONFIG_VARIABLE}.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"the settings file {path} can't be read: {error}", hint="Make it UTF-8 text.") from error
    values = _parse(written, path)
    _refuse_unknown(values, str(path))
    return {key: (value, str(path)) for key, value in values.items()}


def _parse(written: str, path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(written)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(
            f"the settings file {path} is not TOML: {error}", hint='Write lines such as model = "base".'
        ) from error


def _refuse_unknown(given: Mapping[str, object], origin: str) -> None:
    known = list(documentation())
    for key in given:
        if key not in known:
            near = _near(key, known)
            hint = f"Did you mean {near}?" if near else f"Settings: {', '.join(known)}."
            raise UsageError(f"{key} (from {origin}) is not a setting", hint=hint)


def _near(key: str, known: list[str]) -> str | None:
    return next(iter(difflib.get_close_matches(key, known, n=1, cutoff=0.75)), None)
