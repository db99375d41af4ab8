"""Hypothesis strategies for transcripts: any text, segments in order, with and without words."""

from __future__ import annotations

from hypothesis import strategies as st

from cesar.formats.typography import flatten
from cesar.transcript import ModelIdentity, Origin, Segment, Transcript, Word

MODEL = ModelIdentity(name="base", revision="unknown", digest="0" * 64, device="cpu", compute_type="int8")

_FRAGMENTS = st.sampled_from(
    [
        "and",
        "of",
        "so",
        "seven",
        "wonderful",
        "lighthouse,",
        "told",
        "Dr.",
        "Yes.",
        "“Why?”",
        "Donaudampfschifffahrtsgesellschaftskapitänswitwenrente",
        "昨日の会議では、",
        "決まりました。",
        "OpenAIの",
        "プロジェクト",
        "人工智能的发展历史、",
        "오늘은",
        "สวัสดีครับ",
        "เราจะมาพูดถึง",
        "👨‍👩‍👧‍👦",
        "🇫🇷",
        "e\u0301\u0302",
        "\u0301",
        "-->",
        "<i>",
        "&amp;",
        "?",
        "…",
        "\n\n",
        "\u00a0",
        "\u2028",
        "\u200b",
        "1",
    ]
)
TEXTS = st.one_of(
    st.text(max_size=120),
    st.builds(str.join, st.sampled_from([" ", "", "  "]), st.lists(_FRAGMENTS, max_size=40)),
)


ORIGINS = st.builds(
    Origin,
    version=st.none() | st.just("0.1.0"),
    transcribed_at=st.none() | st.just("2026-11-28T12:00:00Z"),
    recording=st.none()
    | st.text(max_size=20)
    | st.sampled_from(["# #", "talk.mp3", "a_b*c*.wav #", "[x](y).ogg", "#"]),
    recorded_at=st.none() | st.sampled_from(["2024-05-01", "2024-05-01T12:00:00Z"]),
    recorded_at_source=st.sampled_from([None, "media", "file"]),
)


@st.composite
def segments(draw: st.DrawFn, after_ms: int, *, ms_per_character: int = 0) -> Segment:
    """Generate a segment that begins after a time and lasts a minimum time per character."""
    text = draw(TEXTS)
    start = after_ms + draw(st.integers(0, 4000))
    end = start + len(text) * ms_per_character + draw(st.integers(0, 20_000))
    return Segment(start / 1000, end / 1000, text, draw(_words(text, start, end)))


@st.composite
def _words(draw: st.DrawFn, text: str, start: int, end: int) -> tuple[Word, ...]:
    wordings = flatten(text).split(" ") if text and draw(st.booleans()) else []
    edges = sorted(draw(st.lists(st.integers(start, end), min_size=2 * len(wordings), max_size=2 * len(wordings))))
    return tuple(
        Word(edges[2 * number] / 1000, edges[2 * number + 1] / 1000, wording, 0.5)
        for number, wording in enumerate(wordings)
        if wording
    )


@st.composite
def transcripts(draw: st.DrawFn, *, ms_per_character: int = 0) -> Transcript:
    """Generate a transcript with segments in order."""
    found: list[Segment] = []
    for _ in range(draw(st.integers(0, 5))):
        after_ms = round(found[-1].end * 1000) if found else 0
        found.append(draw(segments(after_ms, ms_per_character=ms_per_character)))
    spoken_ms = round(found[-1].end * 1000) if found else 0
    return Transcript(
        segments=tuple(found),
        language=draw(st.sampled_from(["en", "de", "ja", "zh", "th", "unknown"])),
        language_probability=draw(st.floats(0, 1)),
        duration=(spoken_ms + draw(st.integers(0, 5000))) / 1000,
        model=MODEL,
        is_partial=draw(st.booleans()),
        origin=draw(ORIGINS),
    )
