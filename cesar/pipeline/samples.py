"""Sound as every stage takes it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Samples = npt.NDArray[np.float32]
"""float32[n], mono, 16 kHz, −1…1."""

SAMPLE_RATE = 16_000

Channels = npt.NDArray[np.float32]
"""float32[1 + channels, n], 16 kHz: the mix, and below it each of several channels by itself."""


def joined(pieces: Sequence[Channels]) -> Channels:
    """Put pieces one after the other; a channel that one of them lacks is silent there."""
    if len(pieces) == 1:
        return pieces[0]
    rows = max(len(piece) for piece in pieces)
    return np.concatenate([_with_rows(piece, rows) for piece in pieces], axis=1)


def averaged(sound: Channels, step: int) -> Channels:
    """The mean of every so many samples of each row; an incomplete last step is left out."""
    whole = sound.shape[1] // step * step
    steps = np.ascontiguousarray(sound[:, :whole], np.float32).reshape(len(sound), -1, step)
    means: Channels = steps @ np.full(step, 1 / step, np.float32)  # ten times as fast as mean()
    return means


def _with_rows(piece: Channels, rows: int) -> Channels:
    return piece if len(piece) == rows else np.pad(piece, ((0, rows - len(piece)), (0, 0)))
