"""Cues: their text, their lines and their times."""

from __future__ import annotations

import re
from bisect import bisect_right
from itertools import accumulate, pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cesar.errors import UsageError
from cesar.formats import render
from cesar.formats.sentence_joins import spoken_segments
from cesar.formats.subtitles.cues import Cue, SubtitleOptions, character_times, cues
from cesar.formats.typography import columns, flatten
from cesar.transcript import Segment, Transcript, Word
from tests.formats.strategies import MODEL, transcripts


def transcript_of(*segments: Segment, language: str = "en", duration: float = 100.0) -> Transcript:
    return Transcript(segments, language, 1.0, duration, MODEL)


def cues_of(text: str, *, language: str = "en", seconds: float = 6.0) -> list[Cue]:
    return cues(transcript_of(Segment(0.0, seconds, text), language=language))


def lines_of(text: str, *, language: str = "en", seconds: float = 6.0) -> list[tuple[str, ...]]:
    return [cue.lines for cue in cues_of(text, language=language, seconds=seconds)]


def words(*timed: tuple[str, float, float]) -> tuple[Word, ...]:
    return tuple(Word(start, end, text, 0.9) for text, start, end in timed)


def letters(text: str) -> str:
    return "".join(flatten(text).split())


def width(line: str) -> int:
    return columns(line)[-1]


# Properties of every transcript.


@pytest.mark.slow
@given(transcripts())
def test_every_character_spoken_is_shown_once_and_in_order(transcript: Transcript) -> None:
    shown = "".join(line for cue in cues(transcript) for line in cue.lines)
    assert letters(shown) == letters(" ".join(segment.text for segment in spoken_segments(transcript)))


@given(transcripts(), st.integers(10, 60), st.integers(1, 4))
def test_no_cue_has_too_many_lines_and_no_line_is_too_long_or_empty(
    transcript: Transcript, max_line_length: int, max_lines: int
) -> None:
    for cue in cues(transcript, SubtitleOptions(max_line_length=max_line_length, max_lines=max_lines)):
        assert 1 <= len(cue.lines) <= max_lines
        for line in cue.lines:
            assert line == line.strip() != ""
            assert width(line) <= max_line_length


@given(transcripts())
def test_cues_take_time_and_never_overlap(transcript: Transcript) -> None:
    """In whole milliseconds, whatever the segments' times, even if they are all the same."""
    shown = cues(transcript)
    assert all(edge == round(edge * 1000) / 1000 for cue in shown for edge in (cue.start, cue.end))
    assert all(0 <= cue.start < cue.end for cue in shown)
    assert all(before.end <= after.start for before, after in pairwise(shown))


@given(transcripts(ms_per_character=2), st.floats(1.0, 10.0))
def test_cues_lie_within_the_recording_and_respect_the_maximum_duration(
    transcript: Transcript, max_duration_s: float
) -> None:
    for cue in cues(transcript, SubtitleOptions(max_cue_duration_s=max_duration_s)):
        assert cue.end <= transcript.duration
        assert cue.end - cue.start <= max_duration_s + 0.001


@given(transcripts(ms_per_character=2))
def test_a_cue_begins_within_its_segments_and_outlasts_them_only_for_reading_time(transcript: Transcript) -> None:
    segments = spoken_segments(transcript)
    ends = [*accumulate(len(letters(segment.text)) for segment in segments)]
    shown = 0
    for cue in cues(transcript):
        first = segments[bisect_right(ends, shown)]
        shown += len(letters("".join(cue.lines)))
        last = segments[bisect_right(ends, shown - 1)]
        rounding = 0.001 * shown
        time_to_read = max(5 / 6, (sum(width(line) for line in cue.lines) + len(cue.lines) - 1) / 20)
        assert first.start <= cue.start <= first.end + rounding
        assert cue.end <= max(last.end, cue.start + time_to_read) + 0.201 + rounding


@given(transcripts(ms_per_character=2))
def test_a_cue_that_is_too_short_to_read_has_no_silence_after_it(transcript: Transcript) -> None:
    """A cue is too fast only if the next one, the end of the recording or the maximum duration forces it."""
    shown = cues(transcript)
    starts = [*(cue.start for cue in shown), transcript.duration]
    for cue, next_start in zip(shown, starts[1:], strict=True):
        time_to_read = max(0.7, (sum(width(line) for line in cue.lines) + len(cue.lines) - 1) / 20)
        is_hasty = cue.end - cue.start < time_to_read - 0.0005
        assert (
            not is_hasty
            or cue.end == pytest.approx(next_start, abs=0.0015 * (len(shown) + 1))
            or (cue.end - cue.start >= 6.999)
        )


@given(transcripts())
def test_the_same_transcript_gives_the_same_cues(transcript: Transcript) -> None:
    again = Transcript.from_dict(transcript.to_dict())
    assert cues(again) == cues(transcript)


# Where text is split.


def test_a_sentence_that_fits_is_one_line() -> None:
    assert lines_of("It was the best of times.") == [("It was the best of times.",)]


def test_two_lines_are_balanced_with_the_longer_one_at_the_bottom() -> None:
    assert lines_of("several equally boring words without anything special") == [
        ("several equally boring", "words without anything special"),
    ]


def test_lines_break_after_a_comma_rather_than_in_the_middle() -> None:
    assert lines_of("When he came home, everybody was already there.") == [
        ("When he came home,", "everybody was already there."),
    ]


def test_lines_break_before_a_conjunction() -> None:
    assert lines_of("nobody found the old lighthouse because everything was dark") == [
        ("nobody found the old lighthouse", "because everything was dark"),
    ]


def test_lines_do_not_break_after_an_article_or_an_abbreviation() -> None:
    assert lines_of("everything there belongs to Dr. Livingstone and family")[0][0].endswith("belongs")


def test_french_punctuation_does_not_begin_a_line() -> None:
    text = "Pourquoi voulez-vous toujours recommencer ? Parce que rien ne marche."
    assert lines_of(text, language="fr") == [
        ("Pourquoi voulez-vous toujours", "recommencer ? Parce que rien ne marche."),
    ]


def test_long_segments_are_cut_at_the_end_of_a_sentence() -> None:
    text = "She walked along the coast for hours without a word. Then the light of the old tower went on again."
    assert [" ".join(lines) for lines in lines_of(text)] == [
        "She walked along the coast for hours without a word.",
        "Then the light of the old tower went on again.",
    ]


def test_the_last_cue_is_not_a_single_word() -> None:
    text = "this sentence has been made exactly long enough that one more word will not fit into two full lines"
    assert all(len(" ".join(lines).split()) > 5 for lines in lines_of(text))


def test_a_word_longer_than_a_line_is_split() -> None:
    assert lines_of("a" * 50) == [("a" * 24, "a" * 26)]


def test_splitting_a_word_keeps_its_characters_whole() -> None:
    family, flag, accented = "👨‍👩‍👧‍👦", "🇫🇷", "e\u0301"
    text = (family + flag + accented) * 20
    for line in (line for lines in lines_of(text) for line in lines):
        rest = line.replace(family, "").replace(flag, "").replace(accented, "")
        assert rest == ""


def test_japanese_breaks_after_punctuation_and_never_before_it() -> None:
    text = "昨日の会議では、新しいプロジェクトの予算について話し合いましたが、最終的な結論には至りませんでした。"
    assert lines_of(text, language="ja") == [
        ("昨日の会議では、新しいプロジェクトの", "予算について話し合いましたが、"),
        ("最終的な結論には至りませんでした。",),
    ]


def test_a_chinese_line_has_at_most_21_characters() -> None:
    text = "今天我们要讲的是人工智能的发展历史从达特茅斯会议开始到今天的大语言模型中间经历了几次起伏"
    assert max(len(line) for lines in lines_of(text, language="zh") for line in lines) <= 21


@pytest.mark.parametrize(
    ("language", "words_"),
    [
        (
            "th",
            [
                "เรา",
                "จะ",
                "มา",
                "พูด",
                "ถึง",
                "ประวัติศาสตร์",
                "ของ",
                "ปัญญา",
                "ประดิษฐ์",
                "ตั้งแต่",
                "เริ่ม",
                "ต้น",
                "จนถึง",
                "ปัจจุบัน",
            ],
        ),
        ("lo", ["ສະບາຍດີ", "ທຸກຄົນ", "ມື້ນີ້", "ພວກ", "ເຮົາ", "ຈະ", "ເວົ້າ", "ກ່ຽວກັບ", "ປະຫວັດສາດ"]),
        ("km", ["ថ្ងៃនេះ", "យើង", "នឹង", "និយាយ", "អំពី", "ប្រវត្តិសាស្ត្រ", "នៃ", "បញ្ញា", "សិប្បនិម្មិត"]),
        ("my", ["ယနေ့", "ကျွန်တော်", "တို့", "ဉာဏ်", "ရည်", "တု", "သမိုင်း", "အကြောင်း", "ပြော", "ပါ", "မည်"]),
    ],
)
@pytest.mark.parametrize("lead", ["", "👨‍👩‍👧‍👦 "])
def test_scripts_without_spaces_break_between_words(language: str, words_: list[str], lead: str) -> None:
    """For every line length; a preceding character outside the basic plane doesn't shift the breaks."""
    text = "".join(words_)
    edges = {0, *accumulate(map(len, words_))}
    for limit in range(18, 40):
        transcript = transcript_of(Segment(0.0, 30.0, lead + text), language=language)
        shown = cues(transcript, SubtitleOptions(max_line_length=limit, max_cue_duration_s=60))
        lines = "\n".join(line for cue in shown for line in cue.lines).removeprefix(lead.strip()).split("\n")
        assert "".join(lines).replace(" ", "") == text
        assert {*accumulate(len(line.replace(" ", "")) for line in lines)} <= edges


def test_thai_prefers_to_break_at_spaces() -> None:
    text = "วันนี้เราจะมาพูดถึงปัญญาประดิษฐ์ ซึ่งเปลี่ยนแปลงชีวิตของเราทุกคน"
    assert lines_of(text, language="th") == [tuple(text.split(" "))]


def test_a_latin_name_in_japanese_is_not_split() -> None:
    text = "来週もう一度集まってみんなでWhisperのモデルについて議論する予定です"
    assert any("Whisper" in line for lines in lines_of(text, language="ja") for line in lines)


def test_korean_breaks_at_spaces() -> None:
    text = "오늘은 인공지능의 역사에 대해서 이야기하려고 합니다 그리고 앞으로의 전망도 함께 살펴보겠습니다"
    assert [part for lines in lines_of(text, language="ko") for line in lines for part in line.split()] == text.split()


# When cues are shown.


def test_cues_are_split_at_the_times_of_their_words() -> None:
    spoken = words(
        ("Nobody", 0.0, 0.5),
        ("came.", 0.5, 1.0),
        ("Then", 4.0, 4.5),
        ("everybody", 4.5, 5.0),
        ("left.", 5.0, 6.0),
    )
    segment = Segment(0.0, 6.0, "Nobody came. Then everybody left.", spoken)
    shown = cues(transcript_of(segment), SubtitleOptions(max_line_length=20, max_lines=1))
    assert shown == [Cue(0.0, 1.0, ("Nobody came.",)), Cue(4.0, 6.0, ("Then everybody left.",))]


def test_without_word_timestamps_time_is_distributed_by_characters() -> None:
    shown = cues(
        transcript_of(Segment(10.0, 14.0, "aaaa bbbbbbbbbbbb")), SubtitleOptions(max_line_length=12, max_lines=1)
    )
    assert shown == [Cue(10.0, 11.0, ("aaaa",)), Cue(11.0, 14.0, ("bbbbbbbbbbbb",))]


def test_a_short_cue_is_shown_long_enough_to_read() -> None:
    assert cues_of("Yes.", seconds=0.1) == [Cue(0.0, 0.833, ("Yes.",))]


def test_a_cue_is_shown_as_long_as_it_takes_to_read() -> None:
    """Twenty columns per second."""
    assert cues_of("thirty eight letters are in this line.", seconds=1.0)[0].end == 1.9


def test_a_short_cue_ends_before_the_next_one() -> None:
    next_text = "Then let us go together before it rains again, and take the long way around the lake this time."
    shown = cues(transcript_of(Segment(0.0, 0.1, "Yes."), Segment(0.75, 9.0, next_text)))
    assert (shown[0].lines, shown[0].start, shown[0].end) == (("Yes.",), 0.0, 0.75)


def test_a_cue_too_short_to_see_is_merged_with_its_neighbour() -> None:
    shown = cues(transcript_of(Segment(0.0, 0.1, "Yes."), Segment(0.5, 3.0, "Then let us go.")))
    assert shown == [Cue(0.0, 3.0, ("Yes. Then let us go.",))]


def test_a_cue_too_short_to_see_between_two_sentences_is_merged_with_one() -> None:
    shown = cues(
        transcript_of(
            Segment(0.0, 3.0, "Are you coming?"),
            Segment(3.1, 3.3, "No."),
            Segment(3.4, 7.0, "He said it without looking up from the newspaper that he had read twice that morning."),
        )
    )
    assert "No." not in [line for cue in shown for line in cue.lines]
    assert all(cue.end - cue.start >= 0.7 for cue in shown)


def test_a_cue_too_short_to_see_before_a_long_sentence_takes_its_first_words() -> None:
    text = "He said it without looking up from the newspaper that he had read twice already that morning."
    shown = cues(transcript_of(Segment(0.0, 0.2, "No."), Segment(0.4, 6.0, text)))
    assert shown[0].lines[0].startswith("No. He said it")
    assert all(cue.end - cue.start >= 0.7 for cue in shown)


def test_fast_speech_next_to_slow_speech_is_merged_to_be_readable() -> None:
    """36 columns in a second, followed by a slow sentence: together they have enough time."""
    shown = cues(
        transcript_of(
            Segment(0.0, 1.0, "What on earth are you talking about?"),
            Segment(1.0, 6.0, "Well, I am not so sure."),
        )
    )
    assert all(width(" ".join(cue.lines)) / (cue.end - cue.start) <= 20 for cue in shown)


def test_speech_too_fast_to_read_keeps_every_word_and_its_time() -> None:
    segments = [Segment(number, number + 1, "thirty seven letters are in this line.") for number in range(6)]
    shown = cues(transcript_of(*segments, duration=6.0))
    assert letters("".join(line for cue in shown for line in cue.lines)) == letters(" ".join(s.text for s in segments))
    assert {cue.start for cue in shown} <= {0.0, 1.0, 2.0, 3.0, 4.0, 5.0}


def test_sentences_separated_by_a_long_pause_never_share_a_cue() -> None:
    shown = cues(transcript_of(Segment(0.0, 0.1, "Yes."), Segment(1.2, 4.0, "Then let us go.")))
    assert [cue.lines for cue in shown] == [("Yes.",), ("Then let us go.",)]


def test_a_short_cue_does_not_outlast_the_recording() -> None:
    assert cues(transcript_of(Segment(0.0, 0.1, "Yes."), duration=0.4))[0].end == 0.4


def test_a_tiny_gap_between_two_cues_is_closed() -> None:
    shown = cues(transcript_of(Segment(0.0, 2.0, "One thing."), Segment(2.1, 4.0, "Another thing.")))
    assert shown[0].end == shown[1].start == 2.1


def test_a_pause_between_two_cues_is_kept() -> None:
    shown = cues(transcript_of(Segment(0.0, 2.0, "One thing."), Segment(3.0, 5.0, "Another thing.")))
    assert (shown[0].end, shown[1].start) == (2.0, 3.0)


def test_slow_speech_is_split_by_duration() -> None:
    shown = cues_of("So a very slow speaker needs his time for a sentence.", seconds=16.0)
    assert len(shown) == 3
    assert all(cue.end - cue.start <= 7.0 for cue in shown)


def test_a_few_words_stretched_over_a_long_time_are_not_split() -> None:
    assert cues_of("Thank you.", seconds=12.0) == [Cue(0.0, 7.0, ("Thank you.",))]


def test_segments_at_the_very_end_still_get_time_within_the_recording() -> None:
    text = "thirty seven letters are in this line."
    shown = cues(transcript_of(*(Segment(5.0, 5.0, text) for _ in range(4)), duration=5.0))
    assert [(cue.start, cue.end) for cue in shown] == [(4.998, 4.999), (4.999, 5.0)]


def test_a_wrong_duration_does_not_squeeze_the_cues() -> None:
    """A transcript made by hand may lack the duration of the recording."""
    assert cues(transcript_of(Segment(5.0, 7.0, "One thing."), duration=0.0)) == [Cue(5.0, 7.0, ("One thing.",))]


def test_a_word_missing_from_the_text_does_not_change_the_times_of_others() -> None:
    spoken = words(("ab", 1.0, 2.0), ("nonsense", 2.0, 3.0), ("cd", 4.0, 6.0))
    times = character_times("ab cd", Segment(0.0, 8.0, "ab cd", spoken))
    assert times[:2] == [(1.0, 1.5), (1.5, 2.0)]
    assert times[3:] == [(4.0, 5.0), (5.0, 6.0)]


def test_words_outside_their_segment_are_clamped_to_it() -> None:
    times = character_times("ab", Segment(2.0, 4.0, "ab", words(("a", 0.0, 3.0), ("b", 2.0, 9.0))))
    assert times == [(2.0, 3.0), (3.0, 4.0)]


@pytest.mark.parametrize(
    ("given_", "value"),
    [
        ("max_line_length", 9),
        ("max_line_length", 251),
        ("max_line_length", 42.0),
        ("max_line_length", "42"),
        ("max_lines", 0),
        ("max_lines", 11),
        ("max_lines", True),
        ("max_cue_duration_s", 0.5),
        ("max_cue_duration_s", 61),
        ("max_cue_duration_s", float("nan")),
        ("max_cue_duration_s", None),
    ],
)
def test_invalid_subtitle_options_are_rejected_with_the_allowed_range(given_: str, value: Any) -> None:
    with pytest.raises(UsageError, match="subtitles can't have") as error:
        SubtitleOptions(**{given_: value})
    assert re.fullmatch(r"Use \d+ to \d+\.", error.value.hint)


def test_without_word_timestamps_no_character_is_timed_in_silence() -> None:
    segment = Segment(0.0, 10.0, "abcd efgh")
    times = character_times("abcd efgh", segment, [(0.0, 2.0), (8.0, 10.0)])
    assert times[3] == pytest.approx((1.5, 2.0))
    assert times[5] == pytest.approx((8.0, 8.5))
    assert times[-1] == pytest.approx((9.5, 10.0))


def test_a_translation_is_broken_by_the_rules_of_english_whatever_the_spoken_language() -> None:
    text = "We walked along the long river bank and then we sat down on the grass because nobody had slept that night"
    segments = (Segment(0.0, 10.0, text),)
    translated = Transcript(segments, "ja", 1.0, 12.0, MODEL, settings={"task": "translate"})
    assert cues(translated) == cues(Transcript(segments, "en", 1.0, 12.0, MODEL))
    assert cues(translated) != cues(Transcript(segments, "ja", 1.0, 12.0, MODEL))


def test_a_translation_has_spaces_between_its_sentences_in_markdown_too() -> None:
    segments = (Segment(0.0, 1.0, "One."), Segment(1.0, 2.0, "Two."))
    translated = Transcript(segments, "ja", 1.0, 2.0, MODEL, settings={"task": "translate"})
    assert "One. Two." in render(translated, "md")


def test_each_language_of_a_recording_is_broken_by_its_own_rules_in_its_own_cues() -> None:
    thai = "เราจะมาพูดถึงประวัติศาสตร์ของปัญญาประดิษฐ์ตั้งแต่เริ่มต้นจนถึงปัจจุบัน"
    segments = (Segment(0.0, 0.2, "Yes.", language="en"), Segment(0.3, 6.0, thai, language="th"))
    shown = cues(transcript_of(*segments, language="en"))
    assert shown[0].lines == ("Yes.",)
    assert "".join(line for cue in shown[1:] for line in cue.lines) == thai
