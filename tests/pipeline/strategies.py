"""What hypothesis draws for the pipeline's tests: speech, its regions, and how they come in."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import strategies as st

from cesar.pipeline.samples import SAMPLE_RATE
from cesar.pipeline.speech.vad import FRAME_SAMPLES, Probabilities, Region, VadUpdate

runs = st.lists(st.tuples(st.sampled_from([0.0, 0.1, 0.2, 0.35, 0.6, 0.99]), st.integers(1, 500)), max_size=10)


@st.composite
def frame_probabilities(draw: st.DrawFn) -> Probabilities:
    """A detector's output: stretches of like frames with a little noise, up to a few minutes."""
    stretches = draw(runs)
    noise = np.random.default_rng(draw(st.integers(0, 99)))
    level = np.concatenate([np.full(count, value) for value, count in stretches] or [np.zeros(0)])
    return np.clip(level + noise.normal(0, 0.03, len(level)), 0, 1).astype(np.float32)


@st.composite
def blocked(draw: st.DrawFn, items: Probabilities) -> list[Probabilities]:
    """The same frames in portions of any size."""
    cuts = sorted(draw(st.sets(st.integers(0, len(items)), max_size=6)))
    return [part for part in np.split(items, cuts) if len(part)]


@st.composite
def speech_regions(draw: st.DrawFn, max_size: int = 20) -> list[Region]:
    """Regions as the detector gives them: on whole frames, in order, not overlapping, 14 s long at most."""
    pairs = draw(st.lists(st.tuples(st.integers(0, 160), st.integers(1, 437)), max_size=max_size))
    regions: list[Region] = []
    frame = 0
    for pause, length in pairs:
        start, frame = frame + pause, frame + pause + length
        regions.append(Region(start * FRAME_SAMPLES, frame * FRAME_SAMPLES, 0.9))
    return regions


@st.composite
def portions(draw: st.DrawFn, regions: list[Region]) -> list[VadUpdate]:
    """The regions in portions of any size, each with a promise that the next one keeps."""
    cuts = [0, *sorted(draw(st.lists(st.integers(0, len(regions)), max_size=6))), len(regions)]
    updates: list[VadUpdate] = []
    for begin, end in pairwise(cuts):
        earliest = regions[end - 1].end if end else 0
        latest = regions[end].start if end < len(regions) else earliest + 10 * SAMPLE_RATE
        before = updates[-1].until if updates else 0
        until = max(before, draw(st.integers(earliest, max(earliest, latest))))
        updates.append(VadUpdate(tuple(regions[begin:end]), until))
    return updates
