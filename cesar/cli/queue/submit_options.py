"""What `cesar jobs submit` asks for, wherever the queue is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cesar.cli.queue.id_prefix import require_text
from cesar.cli.transcription.folders import remark
from cesar.cli.transcription.inputs import left_out
from cesar.cli.transcription.reporters import write_stderr
from cesar.errors import UsageError
from cesar.options import TranscribeOptions
from cesar.settings.config import DEFAULT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cesar.settings.config import Settings

_LONGEST_KEY = 255


def require_key(key: str, *, for_count: int) -> None:
    """Raise `UsageError` unless the key is one, and for one recording."""
    require_text(key)
    if not 1 <= len(key) <= _LONGEST_KEY:
        raise UsageError(f"a key of {len(key)} letters can't be used", hint=f"Use 1 to {_LONGEST_KEY}.")
    if for_count > 1:
        hint = "Submit each one with a key of its own."
        raise UsageError(f"--idempotency-key takes one recording, and there are {for_count}", hint=hint)


def tell_left_out(inputs: Sequence[str]) -> None:
    """Print what of the folders among the inputs is not queued."""
    for folder, names in left_out(inputs).items():
        write_stderr(f"cesar: {remark(folder, names)}")


def options_of(*, translate: bool, **wishes: Any) -> TranscribeOptions:
    """Give what is wished for, by the parameters' names of `cesar transcribe`; None is not given."""
    given = {name: value for name, value in wishes.items() if value is not None}
    return TranscribeOptions(task="translate" if translate else "transcribe", **given)


def model_wished_for(settings: Settings) -> str | None:
    """Give the model, or None if a service may take its own: then nothing but the default names one."""
    return None if settings.origins.get("model") == DEFAULT else settings.model
