"""`Submission`: what `cesar jobs submit` is asked for, for a local queue and a service alike."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cesar.cli.queue.id_prefix import require_utf8
from cesar.cli.transcription.folders import describe_left_out
from cesar.cli.transcription.inputs import left_out
from cesar.cli.transcription.reporters import write_stderr
from cesar.errors import UsageError
from cesar.limits import MAX_KEY_LENGTH

if TYPE_CHECKING:
    from cesar.options import TranscribeOptions


@dataclass(frozen=True, slots=True)
class Submission:
    """Recordings to queue, and how to transcribe them."""

    inputs: tuple[str, ...]
    options: TranscribeOptions
    priority: int = 0
    idempotency_key: str | None = None

    def require_valid_key(self, *, for_count: int) -> None:
        """Raise `UsageError` unless the idempotency key is valid and for one recording."""
        key = self.idempotency_key
        if key is None:
            return
        require_utf8(key)
        if not 1 <= len(key) <= MAX_KEY_LENGTH:
            raise UsageError(f"a key of {len(key)} characters can't be used", hint=f"Use 1 to {MAX_KEY_LENGTH}.")
        if for_count > 1:
            hint = "Submit each recording with its own key."
            raise UsageError(f"--idempotency-key takes one recording, and there are {for_count}", hint=hint)

    def report_left_out(self) -> None:
        """Print what is left out of the folders among the inputs."""
        for folder, names in left_out(self.inputs).items():
            write_stderr(f"cesar: {describe_left_out(folder, names)}")
