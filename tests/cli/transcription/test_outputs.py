from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cesar.cli.transcription.inputs import STDIN, SourceFile
from cesar.cli.transcription.outputs import STDOUT, Destination, choose_destination, plan_outputs
from cesar.errors import RecordingNotFound, UnknownFormat, UsageError


def recordings(*names, folder=Path("talks")):
    return [SourceFile(folder / name) for name in names]


def planned(names, **said):
    """The outputs' file names for recordings of these names, written to a folder."""
    jobs = plan_outputs(recordings(*names), Destination(folder=Path("out"), **said))
    return [[target.path.name for target in job.targets] for job in jobs]


@pytest.mark.parametrize(
    ("file", "formats", "expected"),
    [
        (None, [], ("txt",)),
        ("talk.srt", [], ("srt",)),
        ("talk.VTT", [], ("vtt",)),
        ("talk.log", [], ("txt",)),
        ("talk", [], ("txt",)),
        ("talk.srt", ["json"], ("json",)),
        ("talk", ["srt,vtt", "txt"], ("srt", "vtt", "txt")),
    ],
)
def test_formats_come_from_the_option_else_from_the_ending_else_it_is_text(file, formats, expected):
    assert choose_destination(file and Path(file), None, formats).formats == expected


def test_an_unknown_format_is_refused():
    with pytest.raises(UnknownFormat):
        choose_destination(None, None, ["docx"])


@pytest.mark.parametrize("file", [None, STDOUT])
def test_several_formats_on_standard_output_are_refused(file):
    with pytest.raises(UsageError, match="2 formats"):
        choose_destination(file, None, ["txt,srt"])


def test_a_file_and_a_folder_together_are_refused():
    with pytest.raises(UsageError, match="both"):
        choose_destination(Path("a.txt"), Path("out"), [])


def test_a_file_for_several_recordings_is_refused():
    with pytest.raises(UsageError, match="--output takes one recording"):
        plan_outputs(recordings("a.mp3", "b.mp3"), Destination(file=Path("a.txt")))


def test_one_format_goes_to_exactly_the_file_that_is_named():
    [job] = plan_outputs(recordings("a.mp3"), Destination(file=Path("notes.log"), formats=("srt",)))
    assert [target.path for target in job.targets] == [Path("notes.log")]


@pytest.mark.parametrize("file", ["talk.srt", "talk"])
def test_several_formats_each_put_their_own_ending_on_the_file_that_is_named(file):
    [job] = plan_outputs(recordings("a.mp3"), Destination(file=Path(file), formats=("srt", "md")))
    assert [target.path for target in job.targets] == [Path("talk.srt"), Path("talk.md")]


def test_an_ending_that_is_no_formats_is_part_of_the_name():
    [job] = plan_outputs(recordings("a.mp3"), Destination(file=Path("talk.v2"), formats=("srt", "md")))
    assert [target.path.name for target in job.targets] == ["talk.v2.srt", "talk.v2.md"]


def test_texts_are_named_after_their_recordings():
    assert planned(["a.mp3", "b.tar.wav"], formats=("txt", "srt")) == [
        ["a.txt", "a.srt"],
        ["b.tar.txt", "b.tar.srt"],
    ]


def test_recordings_that_share_a_stem_keep_their_endings():
    assert planned(["a.mp3", "a.wav", "b.mp3"]) == [["a.mp3.txt"], ["a.wav.txt"], ["b.txt"]]


def test_names_that_some_file_systems_take_for_the_same_are_kept_apart():
    assert planned(["Talk.mp3", "talk.wav"]) == [["Talk.mp3.txt"], ["talk.wav.txt"]]


def test_a_name_made_longer_may_make_another_one_longer():
    assert planned(["a.mp3", "a.wav", "a.mp3.ogg"]) == [["a.mp3.txt"], ["a.wav.txt"], ["a.mp3.ogg.txt"]]


def test_of_recordings_whose_texts_would_have_one_name_the_first_has_it():
    twins = [*recordings("a.mp3"), *recordings("A.MP3", folder=Path("other"))]
    first, second = plan_outputs(twins, Destination(folder=Path("out")))
    assert [target.path for target in first.targets] == [Path("out/a.mp3.txt")]
    assert second.targets == ()
    assert second.problem is not None
    assert "other/A.MP3 would have the same name as that of talks/a.mp3" in second.problem.message


def test_a_recording_whose_text_would_replace_another_recording_is_the_only_one_stopped(tmp_path):
    names = ["a.txt", "a.txt.txt", "b.mp3"]
    for name in names:
        (tmp_path / name).write_bytes(b"x")
    jobs = plan_outputs([SourceFile(tmp_path / name) for name in names], Destination(folder=tmp_path))
    assert ["overwritten" in job.problem.message if job.problem else None for job in jobs] == [True, None, None]


def test_standard_input_has_a_name_too():
    [job] = plan_outputs([SourceFile(STDIN)], Destination(folder=Path("out")))
    assert [target.path for target in job.targets] == [Path("out/stdin.txt")]


def test_a_text_that_would_take_a_recordings_place_is_named_otherwise(tmp_path):
    (tmp_path / "notes.txt").write_bytes(b"x")
    [job] = plan_outputs([SourceFile(tmp_path / "notes.txt")], Destination(folder=tmp_path))
    assert [target.path.name for target in job.targets] == ["notes.txt.txt"]


@pytest.mark.parametrize("link", ["hardlink", "symlink"])
def test_naming_the_recording_itself_as_output_is_refused_by_whatever_name(link, tmp_path):
    recording = tmp_path / "a.mp3"
    recording.write_bytes(b"x")
    other = tmp_path / "b.txt"
    other.hardlink_to(recording) if link == "hardlink" else other.symlink_to(recording)
    for output in (recording, other):
        with pytest.raises(UsageError, match="overwritten"):
            plan_outputs([SourceFile(recording)], Destination(file=output))


def test_a_recording_with_a_problem_has_no_texts_and_takes_no_names():
    gone = SourceFile(Path("a.wav"), RecordingNotFound("there is no file a.wav"))
    jobs = plan_outputs([*recordings("a.mp3"), gone], Destination(folder=Path("out")))
    assert [[target.path.name for target in job.targets] for job in jobs] == [["a.txt"], []]


def test_a_job_is_done_when_every_text_is_there(tmp_path):
    [job] = plan_outputs(recordings("a.mp3"), Destination(folder=tmp_path, formats=("txt", "srt")))
    assert not job.is_done
    (tmp_path / "a.txt").write_text("", encoding="utf-8")
    assert not job.is_done
    (tmp_path / "a.srt").write_text("", encoding="utf-8")
    assert job.is_done


def test_standard_output_is_never_done():
    [job] = plan_outputs(recordings("a.mp3"), Destination())
    assert not job.is_done


STEMS = st.sampled_from(["a", "A", "b", "a.mp3", "a.txt"])
ENDINGS = st.sampled_from([".mp3", ".wav", ".txt", ""])


@given(names=st.lists(st.builds(lambda stem, ending: stem + ending, STEMS, ENDINGS), unique=True, max_size=8))
def test_no_two_texts_of_a_run_have_the_same_name(names):
    rows = planned(names, formats=("txt", "md"))
    texts = [text.casefold() for row in rows for text in row]
    assert len(set(texts)) == len(texts)
    assert all(rows) == (len({name.casefold() for name in names}) == len(names))
