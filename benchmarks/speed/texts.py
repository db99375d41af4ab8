"""The differences between two texts, after Whisper's own normaliser for English."""

from __future__ import annotations

from dataclasses import dataclass

MIN_RUN = 4
"""Minimum number of consecutive missing or added words to count; fewer are ordinary errors."""


@dataclass(frozen=True)
class Difference:
    """Differences from a reference, in percent of its words."""

    wrong: float
    lost: float
    """Missing words in runs of four or more."""
    added: float
    """Added words in runs of four or more."""


def difference(reference: str, text: str) -> Difference:
    import jiwer  # imported late: the memory of the benchmark counts in the peaks of the commands that it starts
    from whisper_normalizer.english import EnglishTextNormalizer

    normalize = EnglishTextNormalizer()
    found = jiwer.process_words(normalize(reference), normalize(text))
    words = found.hits + found.substitutions + found.deletions
    chunks = found.alignments[0]
    lost = [c.ref_end_idx - c.ref_start_idx for c in chunks if c.type == "delete"]
    added = [c.hyp_end_idx - c.hyp_start_idx for c in chunks if c.type == "insert"]
    in_runs = [sum(count for count in counts if count >= MIN_RUN) for counts in (lost, added)]
    return Difference(*(round(100 * count / words, 2) for count in (found.wer * words, *in_runs)))
