"""Word error rate: Cesar against faster-whisper, sequential with beam size 5, with the same weights.

The rate is computed after Whisper's own normaliser (characters instead of words for Chinese and Japanese), per clip and
over all English clips together. Prints a table on standard error and JSON on standard output.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import jiwer
from whisper_normalizer.basic import BasicTextNormalizer
from whisper_normalizer.english import EnglishTextNormalizer

from benchmarks.clips import TEST_AUDIO, Clip, clips
from cesar import AudioTranscriber, TranscribeOptions
from cesar.models.store import locate
from cesar.settings.config import load


@dataclass(frozen=True)
class Score:
    """The errors in a text."""

    words: int
    errors: int
    deleted: int

    @property
    def wer(self) -> float:
        """Word error rate in percent."""
        return 100 * self.errors / self.words


def score(clip: Clip, text: str) -> Score:
    """Compare a text with the spoken words."""
    if clip.language == "en":
        normalize: Callable[[str], str] = EnglishTextNormalizer()
    else:
        normalize = BasicTextNormalizer(split_letters=clip.language in {"zh", "ja"})
    out = jiwer.process_words(normalize(clip.reference), normalize(text))
    words = out.hits + out.substitutions + out.deletions
    return Score(words, out.substitutions + out.deletions + out.insertions, out.deletions)


def total(scores: Iterable[Score]) -> Score:
    """Return the total of several scores."""
    every = list(scores)
    return Score(*(sum(getattr(one, name) for one in every) for name in ("words", "errors", "deleted")))


def cesar_text(transcriber: AudioTranscriber, beam_size: int, clip: Clip) -> str:
    """Return Cesar's text of the clip, with language detection."""
    return transcriber.transcribe(clip.path, TranscribeOptions(beam_size=beam_size)).text


def baseline(model: str) -> Callable[[Clip], str]:
    """Return a function that transcribes with faster-whisper and the same weights."""
    from faster_whisper import WhisperModel

    settings = load()
    weights = locate(model, store=settings.models_dir, allow_network=False).directory
    whisper = WhisperModel(str(weights), device="cpu", compute_type="int8")

    def transcribe(clip: Clip) -> str:
        segments, _ = whisper.transcribe(str(clip.path), beam_size=5)
        return "".join(segment.text for segment in segments)

    return transcribe


def compare(model: str, chosen: list[Clip], beam_size: int) -> dict[str, object]:
    """Run both on every clip in a language of the model."""
    ours = partial(cesar_text, AudioTranscriber(model), beam_size)
    theirs = baseline(model)
    rows: dict[str, tuple[Score, Score]] = {}
    for clip in chosen:
        if model.endswith(".en") and clip.language != "en":
            continue
        rows[clip.name] = score(clip, ours(clip)), score(clip, theirs(clip))
        us, them = rows[clip.name]
        sys.stderr.write(
            f"{model:10} {clip.name:28} {us.words:5} words   Cesar {us.wer:6.2f} %   faster-whisper {them.wer:6.2f} %"
            f"   deleted {us.deleted:3} / {them.deleted:3}{'   <' if us.wer > them.wer + 2 else ''}\n"
        )
    english = {clip.name for clip in chosen if clip.language == "en" and not clip.is_two_at_once}
    us, them = (total(row[side] for name, row in rows.items() if name in english) for side in (0, 1))
    sys.stderr.write(f"{model:10} English together: Cesar {us.wer:.2f} %, faster-whisper {them.wer:.2f} %\n")
    return {
        "model": model,
        "clips": {name: {"cesar": asdict(a), "faster-whisper": asdict(b)} for name, (a, b) in rows.items()},
        "english": {"cesar": {**asdict(us), "wer": us.wer}, "faster-whisper": {**asdict(them), "wer": them.wer}},
        "worse by more than 2 points": [name for name, (a, b) in rows.items() if a.wer > b.wer + 2],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--audio", type=Path, default=TEST_AUDIO, help="folder with a manifest.json")
    parser.add_argument("--models", nargs="+", default=["tiny.en", "base"])
    parser.add_argument("--beam-size", type=int, default=1, help="Cesar's; 1 is its default")
    arguments = parser.parse_args()
    chosen = clips(arguments.audio)
    json.dump([compare(model, chosen, arguments.beam_size) for model in arguments.models], sys.stdout, indent=1)


if __name__ == "__main__":
    main()
