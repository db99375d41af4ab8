"""The library: contents of transcripts, callbacks, and resuming."""

import json
import os
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from itertools import groupby, pairwise

import av
import numpy as np
import pytest

import cesar
from cesar import AudioTranscriber, Chunk, Progress, Segment, Span, TranscribeOptions, Transcript
from cesar.errors import (
    EmptyRecording,
    ModelNotInstalled,
    OutputNotWritable,
    RangeOutsideRecording,
    RecordingNotFound,
    UnknownFormat,
    UnknownModel,
    UsageError,
)
from cesar.settings.config import load
from tests.runner.support import AUDIO, JFK, JFK_S, SONNET, plain, write_script

pytestmark = pytest.mark.slow

OPTIONS = TranscribeOptions(end=31.0)
"""Three chunks of the sonnet, language detection included."""


@pytest.fixture(scope="module")
def transcriber(tmp_path_factory):
    return AudioTranscriber(write_script(tmp_path_factory.mktemp("script") / "script.json"))


@pytest.fixture(scope="module")
def whole(transcriber):
    """Run a whole transcription; return the transcript, its chunks and the progress."""
    chunks, progress = list[Chunk](), list[Progress]()
    transcript = transcriber.transcribe(SONNET, OPTIONS, on_chunk=chunks.append, on_progress=progress.append)
    return transcript, chunks, progress


def end_to_end(spans):
    """Return whether each span begins where the previous one ends."""
    return all(before.end == after.start for before, after in pairwise(spans))


def test_a_transcript_has_its_text_and_how_it_was_made(whole, transcriber):
    transcript, _, _ = whole
    assert transcript.text == " ".join(segment.text for segment in transcript.segments) != ""
    assert (transcript.language, transcript.language_probability) == ("en", 0.9)
    assert 53 < transcript.duration < 54
    assert (transcript.model.name, transcript.model.device) == ("scripted", "cpu")
    assert len(transcript.model.digest) == 64
    assert transcript.settings["beam_size"] == 1
    assert {"decode", "speech detection", "features", "encoder", "decoder", "total"} <= transcript.timings.keys()
    assert all(seconds >= 0 for seconds in transcript.timings.values())
    assert transcript.warnings == ()
    assert not transcript.is_partial


def test_the_ledger_of_a_transcript_covers_the_recording_without_gaps_or_overlaps(whole):
    transcript, _, _ = whole
    assert transcript.ledger[0].start == 0.0
    assert transcript.ledger[-1].end == transcript.duration
    assert end_to_end(transcript.ledger)
    assert {span.kind for span in transcript.ledger[:-1]} == {"speech", "silence"}


def test_the_ledger_includes_parts_outside_the_requested_range(transcriber):
    transcript = transcriber.transcribe(SONNET, TranscribeOptions(language="en", start=10.0, end=20.0))
    first, *asked_for, last = transcript.ledger
    assert (first.start, first.end, first.kind, first.reason) == (0.0, 10.0, "dropped", "not asked for")
    assert (last.start, last.kind, last.reason) == (20.0, "dropped", "not asked for")
    assert end_to_end(transcript.ledger)
    assert all(10.0 <= segment.start < segment.end <= 20.0 for segment in transcript.segments)
    assert {span.kind for span in asked_for} <= {"speech", "silence"}


def test_a_transcript_survives_json(whole):
    transcript, _, _ = whole
    assert Transcript.from_dict(json.loads(json.dumps(transcript.to_dict()))) == transcript


def test_words_are_present_only_when_requested(transcriber, whole):
    assert not any(segment.words for segment in whole[0].segments)
    asked = transcriber.transcribe(JFK, TranscribeOptions(language="en", word_timestamps=True))
    assert asked.segments
    for segment in asked.segments:
        assert [word.text for word in segment.words] == segment.text.split()
        assert segment.start <= segment.words[0].start


def test_chunks_arrive_in_order_as_they_finish_and_make_up_the_transcript(whole):
    transcript, chunks, _ = whole
    assert len(chunks) == 3
    assert [chunk.start for chunk in chunks] == sorted(chunk.start for chunk in chunks)
    assert tuple(segment for chunk in chunks for segment in chunk.segments) == transcript.segments


def test_progress_goes_from_loading_through_every_chunk_to_the_end(whole):
    transcript, chunks, progress = whole
    assert (progress[0].phase, progress[0].position, progress[0].fraction) == ("loading", 0.0, None)
    assert {step.phase for step in progress[1:]} == {"recognising"}
    positions = [position for position, _ in groupby(step.position for step in progress[1:])]
    assert positions == [0.0, *(chunk.end for chunk in chunks), transcript.duration]
    worked = [step.worked for step in progress]
    assert worked == sorted(worked)
    assert all(step.worked >= step.position for step in progress)
    assert any(step.worked > 0 for step in progress if not step.position), "work is seen before the first chunk is done"
    assert progress[-1].fraction == 1.0
    assert all(abs(step.duration - transcript.duration) < 0.2 for step in progress[1:])


def test_silence_is_an_empty_transcript(transcriber, tmp_path):
    from tests.support.media import silence, write_wav

    transcript = transcriber.transcribe(write_wav(tmp_path / "silence.wav", silence(2.0)))
    assert (transcript.text, transcript.language, transcript.duration) == ("", "unknown", 2.0)
    assert transcript.ledger == (Span(0.0, 2.0, "silence"),)


@pytest.mark.parametrize("done", [slice(0, 1), slice(1, 3), slice(0, 3, 2), slice(0, 3)])
def test_chunks_of_an_earlier_run_are_reused(transcriber, whole, done):
    """Even if they are not at the beginning, or if they are all chunks."""
    transcript, chunks, _ = whole
    given = chunks[done]
    fresh, progress = list[Chunk](), list[Progress]()
    again = transcriber.transcribe(SONNET, OPTIONS, done=given, on_chunk=fresh.append, on_progress=progress.append)
    assert plain(again) == plain(transcript)
    assert fresh == [chunk for chunk in chunks if chunk not in given]
    assert progress[-1].fraction == 1.0


def test_chunks_of_an_earlier_run_are_not_recognised_again(transcriber, whole):
    _, chunks, _ = whole
    marked = replace(chunks[0], segments=(Segment(chunks[0].start, chunks[0].end, "From the earlier run."),))
    assert transcriber.transcribe(SONNET, OPTIONS, done=[marked]).segments[0].text == "From the earlier run."


def test_chunks_of_another_recording_are_ignored(transcriber, whole):
    transcript, chunks, _ = whole
    strangers = [
        replace(chunks[0], end=chunks[0].end - 1),
        Chunk(1.0, 2.0, (Segment(1.0, 2.0, "Not here."),), (Span(1.0, 2.0, "speech"),)),
        Chunk(1000.0, 1010.0, (Segment(1000.0, 1010.0, "Nor here."),), ()),
    ]
    assert plain(transcriber.transcribe(SONNET, OPTIONS, done=[*strangers, chunks[1]])) == plain(transcript)


def test_transcribe_file_writes_the_transcript_and_returns_the_key_figures(transcriber, tmp_path):
    output = tmp_path / "sonnet.srt"
    positions = []
    summary = transcriber.transcribe_file(
        str(SONNET), str(output), OPTIONS, on_progress=lambda progress: positions.append(progress.position)
    )
    transcript = transcriber.transcribe(SONNET, OPTIONS)
    assert summary == {
        "language": "en",
        "language_probability": 0.9,
        "audio_duration": transcript.duration,
        "processing_time": summary["processing_time"],
        "speed_ratio": pytest.approx(31.0 / summary["processing_time"], abs=0.01),
        "segment_count": len(transcript.segments),
        "output_path": str(output),
        "model": asdict(transcript.model),
        "timings": summary["timings"],
        "warnings": [],
        "dropped_s": 0,
        "origin": summary["origin"],
    }
    assert summary["timings"].keys() == transcript.timings.keys()
    assert summary["processing_time"] > 0
    assert output.read_text(encoding="utf-8").startswith("1\n00:00:")
    assert len(positions) > 3
    json.dumps(summary)


@pytest.mark.parametrize(
    ("name", "output_format", "beginning"),
    [("a.vtt", None, "WEBVTT"), ("a.dat", None, "5feceb66"), ("a.txt", "json", "{")],
)
def test_the_format_is_that_requested_or_that_of_the_extension_or_text(
    transcriber, tmp_path, name, output_format, beginning
):
    transcriber.transcribe_file(JFK, tmp_path / name, output_format=output_format)
    assert (tmp_path / name).read_text(encoding="utf-8").startswith(beginning)


@pytest.mark.parametrize(
    ("output", "output_format", "error"),
    [
        ("missing/a.txt", None, OutputNotWritable),
        ("x" * 300, None, OutputNotWritable),
        ("a.txt", "docx", UnknownFormat),
        ("recording.m4a", None, UsageError),
        ("link.m4a", None, UsageError),
    ],
)
def test_an_impossible_output_is_an_error_before_any_work(transcriber, tmp_path, output, output_format, error):
    """Not after hours; and no recording is ever overwritten."""
    recording = tmp_path / "recording.m4a"
    recording.write_bytes(JFK.read_bytes())
    (tmp_path / "link.m4a").symlink_to(recording)
    progress: list[Progress] = []
    with pytest.raises(error):
        transcriber.transcribe_file(
            recording, tmp_path / output, output_format=output_format, on_progress=progress.append
        )
    assert not progress
    assert recording.read_bytes() == JFK.read_bytes()


def test_an_unreadable_recording_is_an_error_before_any_work(transcriber, tmp_path):
    (tmp_path / "empty.mp3").touch()
    progress: list[Progress] = []
    with pytest.raises(EmptyRecording):
        transcriber.transcribe(tmp_path / "empty.mp3", on_progress=progress.append)
    with pytest.raises(RecordingNotFound):
        transcriber.transcribe_file(tmp_path / "none.mp3", tmp_path / "a.txt", on_progress=progress.append)
    assert not progress


def test_a_start_after_the_end_of_the_recording_is_an_error(transcriber):
    with pytest.raises(RangeOutsideRecording, match=r"jfk\.m4a"):
        transcriber.transcribe(JFK, TranscribeOptions(start=60.0))


@pytest.mark.parametrize("end", [None, 10.0, 12.0, 100.0])
def test_the_duration_is_that_of_the_recording_whatever_part_was_requested(transcriber, end):
    transcript = transcriber.transcribe(JFK, TranscribeOptions(language="en", end=end))
    assert transcript.duration == pytest.approx(JFK_S, abs=0.06)  # according to the header, if decoding stopped early
    assert transcript.ledger[-1].end == transcript.duration


def test_an_unknown_model_is_an_error(tmp_path):
    settings = replace(load(), data_dir=tmp_path)
    with pytest.raises(UnknownModel):
        AudioTranscriber("huge", settings=settings).transcribe(JFK)


def test_a_missing_model_is_not_downloaded_when_offline(tmp_path):
    settings = replace(load(), data_dir=tmp_path, offline=True)
    with pytest.raises(ModelNotInstalled):
        AudioTranscriber("large-v3", settings=settings).transcribe(JFK)


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """Return a factory of transcribers with real weights."""
    data_dir = tmp_path_factory.mktemp("data")
    return lambda workers: AudioTranscriber("tiny.en", settings=replace(load(), data_dir=data_dir, workers=workers))


@pytest.fixture(scope="module")
def really(real):
    """Run a whole transcription with real weights and two threads; return the transcript and its chunks."""
    chunks: list[Chunk] = []
    return real(workers=2).transcribe(SONNET, on_chunk=chunks.append), chunks


@pytest.mark.model
def test_a_real_transcript_names_its_model_exactly(really):
    transcript, _ = really
    assert "From fairest creatures we desire increase" in transcript.text
    assert transcript.model.name == "tiny.en"
    assert transcript.model.revision != "unknown"
    assert len(transcript.model.digest) == 64
    assert {"encoder", "decoder"} <= transcript.timings.keys()
    assert end_to_end(transcript.ledger)


@pytest.mark.model
@pytest.mark.parametrize("done", [slice(0, 2), slice(1, None, 2), slice(0, None)])
def test_resuming_a_real_run_gives_the_same_bytes(real, really, done):
    transcript, chunks = really
    again = real(workers=2).transcribe(SONNET, done=chunks[done])
    assert plain(again) == plain(transcript)
    if chunks[done] == chunks:
        assert "decoder" not in again.timings, "nothing is recognised twice"


@pytest.mark.model
def test_a_real_transcript_does_not_depend_on_the_number_of_threads(real, really):
    chunks: list[Chunk] = []
    real(workers=1).transcribe(SONNET, on_chunk=chunks.append)
    assert chunks == really[1]


@pytest.mark.model
def test_resuming_a_long_real_recording_gives_the_same_bytes(real):
    """Long enough for several batches: the two runs batch windows differently."""
    transcriber, chunks = real(workers=2), list[Chunk]()
    transcript = transcriber.transcribe(AUDIO / "printing-lj.m4a", on_chunk=chunks.append)
    again = transcriber.transcribe(AUDIO / "printing-lj.m4a", done=chunks[:3] + chunks[4::2])
    assert plain(again) == plain(transcript)


def test_a_transcript_has_its_program_its_recording_and_the_recordings_date(transcriber, tmp_path):
    copy = tmp_path / "sonnet copy.mp3"
    copy.write_bytes(SONNET.read_bytes())
    os.utime(copy, (1_700_000_000, 1_700_000_000))
    origin = transcriber.transcribe(copy, OPTIONS).origin
    assert (origin.program, origin.version, origin.recording) == ("Cesar", cesar.__version__, "sonnet copy.mp3")
    assert (origin.recorded_at, origin.recorded_at_source) == ("2023-11-14T22:13:20Z", "file")
    age = datetime.now(UTC) - datetime.fromisoformat(origin.transcribed_at)
    assert timedelta(0) <= age < timedelta(minutes=5)


def test_the_date_in_a_files_tags_takes_precedence_over_its_modification_time(transcriber, tmp_path):
    path = tmp_path / "dated.mp4"
    with av.open(str(path), "w") as container:
        container.metadata["creation_time"] = "2021-03-04T05:06:07Z"
        stream = container.add_stream("aac", rate=16000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 16000), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 16000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    origin = transcriber.transcribe(path).origin
    assert (origin.recorded_at, origin.recorded_at_source) == ("2021-03-04T05:06:07Z", "media")
