"""What a user may set once for every run: `Settings`, and `load`, which finds the values and their origins.

A flag wins over a `CESAR_*` variable, that over the settings file (TOML), that over the default. What one
transcription may ask for is in `cesar.options`.
"""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Mapping
from dataclasses import Field, dataclass, field, fields
from pathlib import Path
from typing import Any

import platformdirs

from cesar.errors import UsageError
from cesar.settings import validation as checks
from cesar.settings.validation import COMPUTE_TYPES, DEVICES

PREFIX = "CESAR_"
CONFIG_VARIABLE = "CESAR_CONFIG"
DEFAULT = "default"


def _data_dir() -> Path:
    return platformdirs.user_data_path("cesar", appauthor=False)


def _metadata(doc: str, check: checks.Check) -> dict[str, Any]:
    return {"doc": doc, "check": check}


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings. Raises `UsageError` for a value that can't be used."""

    model: str = field(
        default="base",
        metadata=_metadata(
            "The model: a name from `cesar models list`, or the folder of one.", checks.text("a name or a folder")
        ),
    )
    openai_model: str | None = field(
        default=None,
        metadata=_metadata(
            "The model that stands in for `whisper-1` and OpenAI's other names; left out: `model`.",
            checks.optional(checks.text("a name or a folder"), "none"),
        ),
    )
    device: str = field(
        default="auto",
        metadata=_metadata("Where recognition runs: auto, cpu or cuda.", checks.one_of(*DEVICES)),
    )
    compute_type: str = field(
        default="auto",
        metadata=_metadata(
            "The numbers the model computes with; auto chooses for the device.", checks.one_of(*COMPUTE_TYPES)
        ),
    )
    data_dir: Path = field(
        default_factory=_data_dir,
        metadata=_metadata("The folder for what Cesar keeps: models in `models`, jobs in `cesar.db`.", checks.folder),
    )
    database: str | None = field(
        default=None,
        metadata=_metadata(
            "The queue's database: a file, or an address; left out: `cesar.db` in data_dir.", checks.database
        ),
    )
    allow_network_fs: bool = field(
        default=False,
        metadata=_metadata("Let the database lie on a network file system, for one program at a time.", checks.boolean),
    )
    shutdown_grace_s: float = field(
        default=8.0,
        metadata=_metadata("How long a job may go on when the worker is asked to stop, in seconds.", checks.seconds),
    )
    offline: bool = field(
        default=False,
        metadata=_metadata("Never use the network, not even when a download is asked for.", checks.boolean),
    )
    workers: int | None = field(
        default=None,
        metadata=_metadata("Threads that recognise; left out or auto: chosen from the cores.", checks.thread_count),
    )
    idle_timeout_s: float = field(
        default=300.0,
        metadata=_metadata("A warm recogniser process is closed after this many seconds without work.", checks.seconds),
    )
    niceness: int = field(
        default=0,
        metadata=_metadata("How far recognition gives way to other programs, 0 to 19.", checks.whole_number(0, 19)),
    )
    stall_timeout_s: float = field(
        default=300.0,
        metadata=_metadata("A recogniser that makes no progress for this many seconds is killed.", checks.seconds),
    )
    open_timeout_s: float = field(
        default=60.0,
        metadata=_metadata("A recording that gives no sound within this many seconds is refused.", checks.seconds),
    )
    host: str = field(
        default="127.0.0.1",
        metadata=_metadata("The address that `cesar serve` listens on.", checks.text("an address such as 127.0.0.1")),
    )
    port: int = field(
        default=5000,
        metadata=_metadata(
            "The port that `cesar serve` listens on; 0 takes a free one.", checks.whole_number(0, 65535)
        ),
    )
    require_key: bool | None = field(
        default=None,
        metadata=_metadata(
            "Whether callers of the service need an API key; auto: unless it listens on loopback only.",
            checks.optional(checks.boolean, "auto"),
        ),
    )
    max_upload_bytes: int = field(
        default=8 * 1024**3,
        metadata=_metadata("The largest recording that the service takes, in bytes.", checks.size),
    )
    max_duration_s: float | None = field(
        default=7 * 86_400.0,
        metadata=_metadata(
            "The longest recording that is transcribed, in seconds of sound.", checks.optional(checks.seconds, "none")
        ),
    )
    max_open_jobs: int = field(
        default=10_000,
        metadata=_metadata("How many unfinished jobs each caller may have.", checks.whole_number(1, 10**9)),
    )
    max_wait_s: float = field(
        default=540.0,
        metadata=_metadata(
            "A synchronous call is refused if its answer would take longer than this, in seconds.", checks.seconds
        ),
    )
    requests_per_minute: int = field(
        default=3000,
        metadata=_metadata("How many requests each caller may make in a minute.", checks.whole_number(1, 10**9)),
    )
    max_connections: int = field(
        default=1000,
        metadata=_metadata("How many connections the service keeps open.", checks.whole_number(1, 10**6)),
    )
    max_connections_per_address: int = field(
        default=250,
        metadata=_metadata("How many of them one address may have.", checks.whole_number(1, 10**6)),
    )
    max_priority: int = field(
        default=0,
        metadata=_metadata(
            "The highest priority that a key without the scope admin may ask for.", checks.whole_number(-1000, 1000)
        ),
    )
    max_stored_bytes: int = field(
        default=100 * 1024**3,
        metadata=_metadata(
            "How much the jobs of a key without the scope admin may take, with recordings and texts, in bytes.",
            checks.size,
        ),
    )
    min_free_bytes: int = field(
        default=256 * 1024**2,
        metadata=_metadata("With less room than this on the data folder's disk the service is unhealthy.", checks.size),
    )
    cors_origins: tuple[str, ...] = field(
        default=(),
        metadata=_metadata("Web sites whose pages may call the service, such as https://example.org.", checks.origins),
    )
    allow_private_urls: bool = field(
        default=False,
        metadata=_metadata("Let recordings be fetched from private addresses too.", checks.boolean),
    )
    fetches_at_once: int = field(
        default=4,
        metadata=_metadata(
            "How many recordings a worker fetches at the same time, with those that wait for the recogniser.",
            checks.whole_number(1, 64),
        ),
    )
    fetch_timeout_s: float = field(
        default=4 * 3600.0,
        metadata=_metadata("A recording that has not been fetched within this many seconds fails.", checks.seconds),
    )
    fetch_min_bytes_per_s: int = field(
        default=16 * 1024,
        metadata=_metadata("A recording that arrives more slowly, over a minute, fails.", checks.size),
    )
    log_format: str = field(
        default="text",
        metadata=_metadata(
            "How the service and the worker write their log: text or json.", checks.one_of("text", "json")
        ),
    )
    server: str | None = field(
        default=None,
        metadata=_metadata(
            "The address of a service that the command line works with, instead of this machine's queue.",
            checks.optional(checks.text("an address such as http://127.0.0.1:5000"), "none"),
        ),
    )
    api_key: str | None = field(
        default=None,
        metadata=_metadata(
            "The API key for that service.",
            checks.optional(checks.text("a key as `cesar keys create` prints it"), "none"),
        ),
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
    def database_location(self) -> str:
        """The queue's database: the file or address that was set, else `cesar.db` in the data folder."""
        return self.database or str(self.data_dir / "cesar.db")

    @property
    def audio_dir(self) -> Path:
        """The absolute path of the folder for uploaded and fetched recordings."""
        return (self.data_dir / "audio").absolute()

    @property
    def models_dir(self) -> Path:
        """The folder that downloaded and imported models are kept in."""
        return self.data_dir / "models"


def _settable() -> list[Field[Any]]:
    return [item for item in fields(Settings) if "check" in item.metadata]


def documentation() -> dict[str, str]:
    """Return the one-line description of each setting by name, in order."""
    return {item.name: item.metadata["doc"] for item in _settable()}


def load(
    overrides: Mapping[str, object | None] | None = None,
    environ: Mapping[str, str] = os.environ,
    config_file: Path | None = None,
) -> Settings:
    """Gather the settings from flags, environment, settings file and defaults.

    overrides: values given as flags; None means not given.
    config_file: the settings file; by default the one named by CESAR_CONFIG, otherwise the user's own, if it exists.
    Raises `UsageError`, naming its origin, for a value that can't be used or a key that does not exist.
    """
    found = _from_file(config_file, environ) | _from_environment(environ) | _from_flags(overrides or {})
    origins = dict.fromkeys(documentation(), DEFAULT) | {key: origin for key, (_, origin) in found.items()}
    values: dict[str, Any] = {key: value for key, (value, _) in found.items()}
    return Settings(**values, origins=origins)


def settings_file(environ: Mapping[str, str] = os.environ) -> Path:
    """Return the settings file to read, if it exists: the one named by CESAR_CONFIG, otherwise the user's own."""
    named = environ.get(CONFIG_VARIABLE)
    return Path(named) if named else platformdirs.user_config_path("cesar", appauthor=False) / "config.toml"


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
            near = _similar(key.removeprefix(PREFIX), [name.upper() for name in variables.values()])
            if near:
                raise UsageError(f"the variable {key} is not a setting", hint=f"Did you mean {PREFIX}{near}?")
    return {name: (environ[key], key) for key, name in variables.items() if environ.get(key)}


def _from_file(config_file: Path | None, environ: Mapping[str, str]) -> Found:
    named = config_file or (Path(environ[CONFIG_VARIABLE]) if environ.get(CONFIG_VARIABLE) else None)
    path = named or settings_file(environ)
    try:
        content = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        if named is None:
            return {}
        raise UsageError(f"there is no settings file {path}", hint=f"Check {CONFIG_VARIABLE}.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"the settings file {path} can't be read: {error}", hint="Make it UTF-8 text.") from error
    values = _parse(content, path)
    _refuse_unknown(values, str(path))
    return {key: (value, str(path)) for key, value in values.items()}


def _parse(content: str, path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(content)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(
            f"the settings file {path} is not TOML: {error}", hint='Write lines such as model = "base".'
        ) from error


def _refuse_unknown(given: Mapping[str, object], origin: str) -> None:
    known = list(documentation())
    for key in given:
        if key not in known:
            near = _similar(key, known)
            hint = f"Did you mean {near}?" if near else f"Settings: {', '.join(known)}."
            raise UsageError(f"{key} (from {origin}) is not a setting", hint=hint)


def _similar(key: str, known: list[str]) -> str | None:
    return next(iter(difflib.get_close_matches(key, known, n=1, cutoff=0.75)), None)
