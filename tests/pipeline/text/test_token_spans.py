from itertools import accumulate

from hypothesis import given
from hypothesis import strategies as st

from cesar.pipeline.text.segments import split_sentences
from cesar.pipeline.text.token_spans import share_tokens


def shares(pieces: list[str], parts: list[str]) -> list[str]:
    """What the tokens of each part say, when each piece of the text is one token."""
    ends = list(accumulate(len(piece.encode()) for piece in pieces))
    return ["".join(pieces[its]) for its in share_tokens(ends, "".join(pieces), parts)]


def test_each_sentence_gets_its_tokens():
    pieces = ["Yes", ".", " She", " said", " no", "!"]
    assert shares(pieces, ["Yes.", "She said no!"]) == ["Yes.", " She said no!"]


def test_a_repeated_sentence_gets_its_own_tokens():
    assert shares(["No", ".", " No", "."], ["No.", "No."]) == ["No.", " No."]


def test_a_token_that_reaches_into_the_next_sentence_belongs_to_that():
    assert shares(["好", "。我", "来"], ["好。", "我来"]) == ["好", "。我来"]


def test_a_character_of_several_tokens_stays_whole():
    first, second = "好。".encode(), "我".encode()
    ends = list(range(1, len(first + second) + 1))  # a token for each byte
    assert share_tokens(ends, "好。我", ["好。", "我"]) == [slice(0, 6), slice(6, 9)]


def test_text_without_tokens_has_none_to_share():
    assert share_tokens([], "Yes. No.", ["Yes.", "No."]) == [slice(0, 0), slice(0, 0)]
    assert share_tokens([3], "Yes", []) == [slice(0, 1)]


@given(st.lists(st.sampled_from([" a", "B", ".", " ", "é", "。", "…", '"', "0."]), max_size=20))
def test_the_tokens_of_all_sentences_together_are_those_of_the_text(pieces):
    text = "".join(pieces)
    told = shares(pieces, split_sentences(text))
    assert "".join(told) == text


@given(st.lists(st.sampled_from([" a", " B", ".", "!", " é", "。"]), max_size=20))
def test_a_sentences_tokens_decode_to_the_sentence(pieces):
    sentences = split_sentences("".join(pieces))
    told = shares(pieces, sentences)
    assert [said.strip() for said in told] == (sentences or [""])


@given(st.lists(st.integers(0, 30)).map(sorted), st.text(alphabet="aB. 。", max_size=20))
def test_every_token_has_one_sentence_even_where_bytes_are_invalid(ends, text):
    slices = share_tokens(ends, text, split_sentences(text))
    assert [at for its in slices for at in range(len(ends))[its]] == list(range(len(ends)))
