"""The settings that apply to every run: `Settings`, and `load`, which finds their values and origins.

Flags override `CESAR_*` variables, which override the settings file (TOML), which overrides the defaults. The options
of a single transcription are in `cesar.options`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

import platformdirs

from cesar.errors import UsageError
from cesar.limits import PRIORITIES
from cesar.settings import validation as checks
from cesar.settings.sources import from_environment, from_file, from_flags
from cesar.settings.validation import COMPUTE_TYPES, DEVICES, Check, OneOf, WholeNumber

DEFAULT = "default"
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Setting:
    """The declaration of a setting, besides its name, type and default."""

    doc: str
    check: Check
    default_text: str = ""
    """The default as text; empty if the description says it."""
    metavar: str | None = None
    """The placeholder for its value in `--help`, if it has a flag."""
    short: str = ""
    """A second, short flag."""

    @property
    def help(self) -> str:
        """The description of its flag."""
        words = self.check.words if isinstance(self.check, OneOf) and self.metavar else ()
        line = f"{self.doc.removesuffix('.')}: {', '.join(words)}." if words else self.doc
        return f"{line} [default: {self.default_text}]" if self.default_text else line


def setting(
    default: T, doc: str, check: Check, *, default_text: str = "", metavar: str | None = None, short: str = ""
) -> T:
    """Declare a field of `Settings` by its default, and the fields of `Setting`."""
    if isinstance(default, (str, int)) and not isinstance(default, bool):
        default_text = str(default)
    found: T = field(default=default, metadata={"setting": Setting(doc, check, default_text, metavar, short)})
    return found


def _data_dir() -> Path:
    return platformdirs.user_data_path("cesar", appauthor=False)


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings. Raises `UsageError` for an invalid value."""

    model: str = setting(
        "base",
        "The model: a name from `cesar models list`, or a folder.",
        checks.text("a name or a folder"),
        metavar="NAME|DIR",
        short="-m",
    )
    openai_model: str | None = setting(
        None,
        "The model used for `whisper-1` and OpenAI's other model names; default: `model`.",
        checks.optional(checks.text("a name or a folder"), "none"),
    )
    device: str = setting("auto", "The device to run on.", OneOf(DEVICES))
    compute_type: str = setting("auto", "The precision.", OneOf(COMPUTE_TYPES), metavar="TYPE")
    data_dir: Path = field(
        default_factory=_data_dir,
        metadata={"setting": Setting("The folder for recordings, queue and models.", checks.folder, metavar="DIR")},
    )
    database: str | None = setting(
        None,
        "The queue's database: a file or a URL.",
        checks.database,
        metavar="FILE",
        default_text="cesar.db in the data folder",
    )
    allow_network_fs: bool = setting(
        False, "Allow the database on a network file system, for one program at a time.", checks.boolean
    )
    shutdown_grace_s: float = setting(
        8.0, "Seconds that a running job may continue after the worker is told to stop.", checks.seconds
    )
    offline: bool = setting(False, "Never use the network.", checks.boolean)
    workers: int | None = setting(
        None, "The number of recognition threads; auto: chosen by the number of cores.", checks.thread_count
    )
    idle_timeout_s: float = setting(
        300.0, "Seconds without work after which the warm recogniser process is closed.", checks.seconds
    )
    niceness: int = setting(
        0, "The niceness of recognition, 0 to 19: higher gives way to other programs.", WholeNumber(0, 19)
    )
    stall_timeout_s: float = setting(
        300.0, "Seconds without progress after which the recogniser is killed.", checks.seconds
    )
    open_timeout_s: float = setting(
        60.0, "Seconds within which a recording must give sound, or be rejected.", checks.seconds
    )
    host: str = setting(
        "127.0.0.1", "The address to listen on.", checks.text("an address such as 127.0.0.1"), metavar="ADDRESS"
    )
    port: int = setting(5000, "The port to listen on; 0 chooses a free one.", WholeNumber(0, 65535), metavar="N")
    require_key: bool | None = setting(
        None,
        "Whether the service requires API keys; auto: unless it listens on loopback only.",
        checks.optional(checks.boolean, "auto"),
    )
    max_upload_bytes: int = setting(
        8 * 1024**3, "The largest recording that the service accepts, in bytes.", checks.size
    )
    max_duration_s: float | None = setting(
        7 * 86_400.0,
        "The longest recording that is transcribed, in seconds of audio.",
        checks.optional(checks.seconds, "none"),
    )
    max_open_jobs: int = setting(10_000, "The maximum number of unfinished jobs per caller.", WholeNumber(1, 10**9))
    max_wait_s: float = setting(
        540.0, "A synchronous call is rejected if its response would take longer than this, in seconds.", checks.seconds
    )
    requests_per_minute: int = setting(
        3000, "The maximum number of requests per caller and minute.", WholeNumber(1, 10**9)
    )
    max_connections: int = setting(1000, "The maximum number of open connections.", WholeNumber(1, 10**6))
    max_connections_per_address: int = setting(
        250, "The maximum number of open connections per address.", WholeNumber(1, 10**6)
    )
    max_priority: int = setting(
        0,
        "The highest priority that a key without the scope admin may request.",
        WholeNumber(*PRIORITIES),
    )
    max_stored_bytes: int = setting(
        100 * 1024**3,
        "The storage limit for the jobs of a key without the scope admin, in bytes.",
        checks.size,
    )
    min_free_bytes: int = setting(
        256 * 1024**2,
        "With less free space than this on the data folder's disk, the service is unhealthy.",
        checks.size,
    )
    cors_origins: tuple[str, ...] = setting(
        (), "Origins whose web pages may call the service, such as https://example.org.", checks.origins
    )
    allow_private_urls: bool = setting(False, "Allow recordings to be fetched from private addresses.", checks.boolean)
    fetches_at_once: int = setting(
        4,
        "The maximum number of recordings being fetched, or fetched and waiting for the recogniser.",
        WholeNumber(1, 64),
    )
    fetch_timeout_s: float = setting(4 * 3600.0, "Seconds after which fetching a recording fails.", checks.seconds)
    fetch_min_bytes_per_s: int = setting(
        16 * 1024,
        "The minimum speed of fetching a recording, averaged over a minute, in bytes per second.",
        checks.size,
    )
    log_format: str = setting("text", "The format of the log.", OneOf(("text", "json")))
    server: str | None = setting(
        None,
        "Use the service at this URL instead of this machine.",
        checks.optional(checks.text("an address such as http://127.0.0.1:5000"), "none"),
        metavar="URL",
        default_text="CESAR_SERVER",
    )
    api_key: str | None = setting(
        None,
        "The API key for `server`.",
        checks.optional(checks.text("a key printed by `cesar keys create`"), "none"),
    )
    origins: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)
    """The origin of each value: "flag", the variable's name, the file's path or "default"."""

    def __post_init__(self) -> None:
        for name, declared in SETTINGS.items():
            value = getattr(self, name)
            try:
                object.__setattr__(self, name, declared.check(value))
            except ValueError as wrong:
                origin = f" (from {self.origins[name]})" if name in self.origins else ""
                raise UsageError(f"{name} = {value!r}{origin} can't be used", hint=f"Use {wrong}.") from None

    @property
    def chosen_model(self) -> str | None:
        """The model that the user has chosen; None leaves the choice to a service."""
        return None if self.origins.get("model") == DEFAULT else self.model

    @property
    def database_location(self) -> str:
        """The queue's database: the configured file or URL, else `cesar.db` in the data folder."""
        return self.database or str(self.data_dir / "cesar.db")

    @property
    def audio_dir(self) -> Path:
        """The absolute path of the folder for uploaded and fetched recordings."""
        return (self.data_dir / "audio").absolute()

    @property
    def models_dir(self) -> Path:
        """The folder for downloaded and imported models."""
        return self.data_dir / "models"


SETTINGS: Mapping[str, Setting] = {
    each.name: each.metadata["setting"] for each in fields(Settings) if "setting" in each.metadata
}
"""Every setting by name, in display order."""


def load(
    overrides: Mapping[str, object | None] | None = None,
    environ: Mapping[str, str] = os.environ,
    config_file: Path | None = None,
) -> Settings:
    """Load the settings from flags, environment, settings file and defaults.

    overrides: values given as flags; None means not given.
    config_file: the settings file; by default the one named by CESAR_CONFIG, otherwise the user's own, if it exists.
    Raises `UsageError`, which names the origin, for an invalid value or an unknown key.
    """
    known = list(SETTINGS)
    found = (
        from_file(config_file, environ, known) | from_environment(environ, known) | from_flags(overrides or {}, known)
    )
    origins = dict.fromkeys(known, DEFAULT) | {key: origin for key, (_, origin) in found.items()}
    values: dict[str, Any] = {key: value for key, (value, _) in found.items()}
    return Settings(**values, origins=origins)
