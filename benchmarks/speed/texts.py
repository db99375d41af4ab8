"""How two texts differ, after Whisper's own normaliser for English."""

from __future__ import annotations

from dataclasses import dataclass

LEAST_RUN = 4
"""Words in a row that are missing or too many are counted from this number on: fewer are a matter of hearing."""


@dataclass(frozen=True)
class Difference:
    """What differs from a reference, each in percent of the reference's words."""

    wrong: float
    lost: float
    """Words in runs of four or more that the text lacks."""
    added: float
    """Words in runs of four or more that only the text has."""


def difference(reference: str, text: str) -> Difference:
    import jiwer  # only now: what the benchmark holds counts in the peaks of the commands that it starts
    from whisper_normalizer.english import EnglishTextNormalizer

    normalize = EnglishTextNormalizer()
    found = jiwer.process_words(normalize(reference), normalize(text))
    words = found.hits + found.substitutions + found.deletions
    chunks = found.alignments[0]
    lost = [c.ref_end_idx - c.ref_start_idx for c in chunks if c.type == "delete"]
    added = [c.hyp_end_idx - c.hyp_start_idx for c in chunks if c.type == "insert"]
    in_runs = [sum(count for count in counts if count >= LEAST_RUN) for counts in (lost, added)]
    return Difference(*(round(100 * count / words, 2) for count in (found.wer * words, *in_runs)))
