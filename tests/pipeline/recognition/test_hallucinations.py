"""Phrases that Whisper invents: known by their words, and told from real ones by the sound below them."""

import pytest

from cesar.pipeline.recognition.hallucinations import count_letters, is_hallucination, is_too_fast

CLEAR, DOUBTFUL = 0.99, 0.4
CREDITS = [
    "Subtitles by the Amara.org community",
    "Untertitel der Amara.org-Community",
    "Untertitel im Auftrag des ZDF für funk, 2017",
    "Untertitelung des ZDF, 2020",
    "Sous-titres réalisés par la communauté d'Amara.org",
    "Sous-titrage Société Radio-Canada",
    "Subtítulos realizados por la comunidad de Amara.org",
    "Sottotitoli creati dalla comunità Amara.org",
    "Legendas pela comunidade Amara.org",
    "Ondertiteld door de Amara.org gemeenschap",
    "Napisy stworzone przez społeczność Amara.org",
    "Субтитры сделал DimaTorzok",
    "Редактор субтитров А.Синецкая Корректор А.Егорова",
    "字幕由Amara.org社区提供",
    "字幕志愿者 李宗盛",
]
OUTROS = [
    "Thanks for watching.",
    "Thank you for watching!",
    "Vielen Dank fürs Zuschauen.",
    "Merci d'avoir regardé cette vidéo !",
    "¡Gracias por ver el video!",
    "Спасибо за просмотр!",
    "ご視聴ありがとうございました",
    "谢谢观看",
    "시청해주셔서 감사합니다.",
    "Bedankt voor het kijken.",
]
COURTESIES = [
    "Thank you.",
    "Thank you very much.",
    "Vielen Dank.",
    "Merci.",
    "Gracias.",
    "Bye-bye.",
    "Спасибо.",
    "谢谢大家",
]


@pytest.mark.parametrize("phrase", [*CREDITS, *OUTROS, *COURTESIES])
def test_a_known_phrase_is_a_hallucination_where_speech_is_uncertain_and_real_where_it_is_clear(phrase):
    spoken_s = max(0.6, count_letters(phrase) / 14)
    assert is_hallucination(phrase, DOUBTFUL, spoken_s)
    assert not is_hallucination(phrase, CLEAR, spoken_s)


@pytest.mark.parametrize("phrase", OUTROS)
@pytest.mark.parametrize("joiner", [" ", "\n"])
def test_a_closing_phrase_is_a_hallucination_if_it_occurs_twice(phrase, joiner):
    assert is_hallucination(joiner.join([phrase, phrase]), CLEAR, 3.0)


@pytest.mark.parametrize("phrase", ["Thank you.", "Bye.", "Merci."])
def test_a_courtesy_may_occur_twice(phrase):
    assert not is_hallucination(f"{phrase} {phrase}", CLEAR, 1.5)
    assert is_hallucination(f"{phrase} {phrase}", DOUBTFUL, 1.5)


@pytest.mark.parametrize("phrase", [*CREDITS, *OUTROS])
def test_a_known_phrase_in_a_fraction_of_a_second_is_a_hallucination(phrase):
    assert is_hallucination(f"{phrase} {phrase}", CLEAR, 0.12)


@pytest.mark.parametrize("phrase", [*CREDITS, *OUTROS])
def test_a_known_phrase_over_half_a_minute_of_song_is_a_hallucination(phrase):
    assert is_hallucination(phrase, CLEAR, 30.0)


@pytest.mark.parametrize(
    "text",
    [
        "Thank you for coming.",
        "Thank you all very much for watching over my children.",
        "The end of the story is short.",
        "Untertitel sind nützlich.",
        "Die Untertitel fehlen.",
        "Subtitles help me to follow.",
        "Gracias a todos por venir.",
        "",
    ],
)
def test_other_words_are_never_hallucinations(text):
    assert not is_hallucination(text, DOUBTFUL, 2.0)


@pytest.mark.parametrize(
    ("text", "speech_s"),
    [
        ("Yes.", 0.0),
        ("Thank you.", 0.1),
        ("So fast that hardly anybody can follow him.", 1.7),
        ("これは早口で話しています", 1.6),
        ("他说得非常快没有人听得懂", 1.6),
        ("빨리 말하는 사람입니다", 1.2),
    ],
)
def test_fast_speech_is_plausible(text, speech_s):
    assert not is_too_fast(text, speech_s)


@pytest.mark.parametrize(
    ("text", "speech_s"),
    [
        ("Thanks for watching.", 0.06),
        ("and Roe, Foobar, Kubernetes, Roe, Foobar, Kubernetes, Roe, Foobar", 0.13),
        ("ご視聴ありがとうございました", 0.5),
        ("他说得非常快没有人听得懂", 0.4),
    ],
)
def test_text_faster_than_speech_is_implausible(text, speech_s):
    assert is_too_fast(text, speech_s)
