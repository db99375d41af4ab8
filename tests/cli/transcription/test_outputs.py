from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cesar.cli.transcription.inputs import STDIN, SourceFile
from cesar.cli.transcription.outputs import STDOUT, Destination, choose_destination, plan_outputs
from cesar.errors import RecordingNotFound, UnknownFormat, UsageError


def recordings(*names, folder=Path("talks")):
    return [SourceFile(folder / name) for name in names]


def planned(names, **destination):
    """Return the output file names for recordings of these names in an output folder."""
    jobs = plan_outputs(recordings(*names), Destination(folder=Path("out"), **destination))
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
def test_the_format_comes_from_the_option_else_the_extension_else_is_txt(file, formats, expected):
    assert choose_destination(file and Path(file), None, formats).formats == expected


def test_an_unknown_format_is_refused():
    with pytest.raises(UnknownFormat):
        choose_destination(None, None, ["docx"])


@pytest.mark.parametrize("file", [None, STDOUT])
def test_several_formats_on_standard_output_are_refused(file):
    with pytest.raises(UsageError, match="2 formats"):
        choose_destination(file, None, ["txt,srt"])


def test_output_and_output_dir_together_are_refused():
    with pytest.raises(UsageError, match="both"):
        choose_destination(Path("a.txt"), Path("out"), [])


def test_one_output_file_for_several_recordings_is_refused():
    with pytest.raises(UsageError, match="--output takes one recording"):
        plan_outputs(recordings("a.mp3", "b.mp3"), Destination(file=Path("a.txt")))


def test_a_single_format_goes_to_exactly_the_given_file():
    [job] = plan_outputs(recordings("a.mp3"), Destination(file=Path("notes.log"), formats=("srt",)))
    assert [target.path for target in job.targets] == [Path("notes.log")]


@pytest.mark.parametrize("file", ["talk.srt", "talk"])
def test_several_formats_each_put_their_own_extension_on_the_given_file(file):
    [job] = plan_outputs(recordings("a.mp3"), Destination(file=Path(file), formats=("srt", "md")))
    assert [target.path for target in job.targets] == [Path("talk.srt"), Path("talk.md")]


def test_an_extension_that_is_not_a_formats_is_part_of_the_name():
    [job] = plan_outputs(recordings("a.mp3"), Destination(file=Path("talk.v2"), formats=("srt", "md")))
    assert [target.path.name for target in job.targets] == ["talk.v2.srt", "talk.v2.md"]


def test_texts_are_named_after_their_recordings():
    assert planned(["a.mp3", "b.tar.wav"], formats=("txt", "srt")) == [
        ["a.txt", "a.srt"],
        ["b.tar.txt", "b.tar.srt"],
    ]


def test_recordings_that_share_a_stem_keep_their_extensions():
    assert planned(["a.mp3", "a.wav", "b.mp3"]) == [["a.mp3.txt"], ["a.wav.txt"], ["b.txt"]]


def test_names_that_some_file_systems_confuse_are_kept_distinct():
    assert planned(["Talk.mp3", "talk.wav"]) == [["Talk.mp3.txt"], ["talk.wav.txt"]]


def test_lengthening_a_name_can_require_lengthening_another():
    assert planned(["a.mp3", "a.wav", "a.mp3.ogg"]) == [["a.mp3.txt"], ["a.wav.txt"], ["a.mp3.ogg.txt"]]


def test_the_first_of_several_recordings_gets_a_contested_name():
    twins = [*recordings("a.mp3"), *recordings("A.MP3", folder=Path("other"))]
    first, second = plan_outputs(twins, Destination(folder=Path("out")))
    assert [target.path for target in first.targets] == [Path("out/a.mp3.txt")]
    assert second.targets == ()
    assert second.problem is not None
    assert "other/A.MP3 would have the same name as that of talks/a.mp3" in second.problem.message


def test_only_the_recording_whose_text_would_overwrite_another_is_stopped(tmp_path):
    names = ["a.txt", "a.txt.txt", "b.mp3"]
    for name in names:
        (tmp_path / name).write_bytes(b"x")
    jobs = plan_outputs([SourceFile(tmp_path / name) for name in names], Destination(folder=tmp_path))
    assert ["overwritten" in job.problem.message if job.problem else None for job in jobs] == [True, None, None]


def test_the_text_from_standard_input_has_a_name():
    [job] = plan_outputs([SourceFile(STDIN)], Destination(folder=Path("out")))
    assert [target.path for target in job.targets] == [Path("out/stdin.txt")]


def test_a_text_that_would_overwrite_a_recording_gets_another_name(tmp_path):
    (tmp_path / "notes.txt").write_bytes(b"x")
    [job] = plan_outputs([SourceFile(tmp_path / "notes.txt")], Destination(folder=tmp_path))
    assert [target.path.name for target in job.targets] == ["notes.txt.txt"]


@pytest.mark.parametrize("link", ["hardlink", "symlink"])
def test_the_recording_itself_as_output_is_refused_under_any_name(link, tmp_path):
    recording = tmp_path / "a.mp3"
    recording.write_bytes(b"x")
    other = tmp_path / "b.txt"
    other.hardlink_to(recording) if link == "hardlink" else other.symlink_to(recording)
    for output in (recording, other):
        with pytest.raises(UsageError, match="overwritten"):
            plan_outputs([SourceFile(recording)], Destination(file=output))


def test_a_recording_with_a_problem_has_no_texts_and_reserves_no_names():
    gone = SourceFile(Path("a.wav"), RecordingNotFound("there is no file a.wav"))
    jobs = plan_outputs([*recordings("a.mp3"), gone], Destination(folder=Path("out")))
    assert [[target.path.name for target in job.targets] for job in jobs] == [["a.txt"], []]


def test_a_task_is_done_when_every_text_exists(tmp_path):
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
def test_the_texts_of_a_run_have_distinct_names(names):
    rows = planned(names, formats=("txt", "md"))
    texts = [text.casefold() for row in rows for text in row]
    assert len(set(texts)) == len(texts)
    assert all(rows) == (len({name.casefold() for name in names}) == len(names))
