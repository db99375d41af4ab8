"""Messages arrive as they were sent; incomplete ones are detected."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cesar import CesarError, Chunk, Segment, Span, TranscribeOptions, Word
from cesar.errors import BY_CODE
from cesar.pipeline.request import Outcome, Request
from cesar.runner import messages
from cesar.runner.messages import Alive, EngineSpec, Failed, Finished, Loaded, Opened, Skipped
from cesar.transcript import ModelIdentity

text = st.text(max_size=20)
seconds = st.floats(0, 1e6).map(lambda value: round(value, 3))
number = st.floats(allow_nan=False)
words = st.builds(Word, seconds, seconds, text, number)
token_ids, logprobs = st.lists(st.integers(0, 60_000), max_size=3).map(tuple), st.tuples(number)
segments = st.builds(
    Segment,
    *(seconds, seconds, text, st.tuples(words), number, number, number, number),
    *(st.integers(0, 10**7), token_ids, logprobs),
)
spans = st.builds(Span, seconds, seconds, st.sampled_from(["speech", "silence", "dropped"]), st.none() | text, text)
chunks = st.builds(Chunk, seconds, seconds, st.tuples(segments, segments), st.tuples(spans), st.tuples(text))
options = st.builds(
    TranscribeOptions,
    language=st.sampled_from([None, "en", "German"]),
    task=st.sampled_from(["transcribe", "translate"]),
    prompt=st.none() | text,
    word_timestamps=st.booleans(),
    start=seconds,
    beam_size=st.integers(1, 32),
    temperature=st.floats(0, 1),
    token_logprobs=st.booleans(),
)
# File names on Linux may not be UTF-8: Python represents them with lone surrogates.
names = st.text(st.characters(blacklist_characters="/\0", blacklist_categories=[]), min_size=1, max_size=20)
every_message = st.one_of(
    st.builds(EngineSpec, text, text, text, text, workers=st.none() | st.integers(1, 64), scripted=st.booleans()),
    st.builds(Request, names.map(Path), options, st.lists(st.tuples(seconds, seconds), max_size=5).map(tuple)),
    st.builds(Loaded, st.builds(ModelIdentity, text, text, text, text, text), st.lists(text, max_size=3).map(tuple)),
    st.builds(Opened, st.none() | seconds),
    st.just(Alive()),
    st.builds(Finished, chunks),
    st.builds(Skipped, seconds, seconds),
    st.builds(Outcome, text, number, seconds, st.dictionaries(text, seconds, max_size=3), st.tuples(text)),
    st.builds(Failed, st.sampled_from(sorted(BY_CODE)), text, text, text),
)


@settings(max_examples=100, deadline=None)
@given(every_message)
def test_a_message_is_parsed_as_it_was_sent(message: Any):
    assert messages.parse(messages.dump(message)) == message


@settings(max_examples=30, deadline=None)
@given(every_message)
def test_a_message_is_one_line_of_ascii(message: Any):
    line = messages.dump(message)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert line.isascii()


@settings(max_examples=50, deadline=None)
@given(every_message, st.data())
def test_a_truncated_message_is_distinguished_from_a_complete_one(message: Any, data: st.DataObject):
    line = messages.dump(message)
    cut = line[: data.draw(st.integers(0, len(line) - 2))]
    with pytest.raises(ValueError, match="not a message"):
        messages.parse(cut)


@pytest.mark.parametrize(
    "line",
    [
        b"\n",
        b"\xff\n",
        b"null\n",
        b'"Alive"\n',
        b"{}\n",
        b'{"is": "Nothing"}\n',
        b'{"is": ["Alive"]}\n',
        b'{"is": "Opened"}\n',
        b'{"is": "Finished", "chunk": null}\n',
        b'{"is": "Finished", "chunk": {}}\n',
    ],
)
def test_a_line_that_is_not_a_message_is_rejected(line):
    with pytest.raises(ValueError, match="not a message"):
        messages.parse(line)


@pytest.mark.parametrize("code", sorted(BY_CODE))
def test_an_error_arrives_unchanged(code):
    error = messages.parse(messages.dump(Failed(code, "what happened", "what to do"))).error()
    assert type(error) is BY_CODE[code]
    assert (error.message, error.hint) == ("what happened", "what to do")


def test_the_traceback_of_a_bug_is_sent_with_it():
    error = Failed("internal", "KeyError: 'x'", "report it", "Traceback (most recent call last): …").error()
    assert type(error) is CesarError
    assert error.__notes__ == ["Traceback (most recent call last): …"]


def test_a_long_list_of_finished_chunks_is_a_small_message():
    """Ten hours of recording."""
    request = Request(Path("a.mp3"), TranscribeOptions(), tuple((at * 15.0, at * 15.0 + 15) for at in range(2400)))
    assert len(messages.dump(request)) < 64 * 1024
    assert messages.parse(messages.dump(request)) == request
