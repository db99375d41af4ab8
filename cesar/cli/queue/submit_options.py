"""The options of `cesar jobs submit` for a local queue and a service alike."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cesar.cli.queue.id_prefix import require_utf8
from cesar.cli.transcription.folders import describe_left_out
from cesar.cli.transcription.inputs import left_out
from cesar.cli.transcription.reporters import write_stderr
from cesar.errors import UsageError
from cesar.options import TranscribeOptions
from cesar.settings.config import DEFAULT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cesar.settings.config import Settings

_MAX_KEY_LENGTH = 255


def require_valid_key(key: str, *, for_count: int) -> None:
    """Raise `UsageError` unless the idempotency key is valid and for one recording."""
    require_utf8(key)
    if not 1 <= len(key) <= _MAX_KEY_LENGTH:
        raise UsageError(f"a key of {len(key)} characters can't be used", hint=f"Use 1 to {_MAX_KEY_LENGTH}.")
    if for_count > 1:
        hint = "Submit each recording with its own key."
        raise UsageError(f"--idempotency-key takes one recording, and there are {for_count}", hint=hint)


def report_left_out(inputs: Sequence[str]) -> None:
    """Print what is left out of the folders among the inputs."""
    for folder, names in left_out(inputs).items():
        write_stderr(f"cesar: {describe_left_out(folder, names)}")


def build_options(*, translate: bool, **options: Any) -> TranscribeOptions:
    """Return the options from the parameters of `cesar transcribe`; None means not given."""
    given = {name: value for name, value in options.items() if value is not None}
    return TranscribeOptions(task="translate" if translate else "transcribe", **given)


def requested_model(settings: Settings) -> str | None:
    """Return the model that the user has chosen; None leaves the choice to the service."""
    return None if settings.origins.get("model") == DEFAULT else settings.model
