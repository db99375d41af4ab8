"""Sound as every stage takes it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Samples = npt.NDArray[np.float32]
"""float32[n], mono, 16 kHz, −1…1."""

SAMPLE_RATE = 16_000
