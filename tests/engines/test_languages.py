from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cesar.engines.language_codes import BY_OTHER_NAMES
from cesar.engines.languages import ALIASES, LANGUAGES, language_code
from cesar.errors import CesarError, UnknownLanguage


def test_whispers_hundred_languages_are_known_in_the_order_of_their_tokens():
    codes = list(LANGUAGES)
    assert len(codes) == len(set(LANGUAGES.values())) == 100
    assert (codes[0], codes[1], codes[97], codes[98], codes[99]) == ("en", "zh", "jw", "su", "yue")


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("en", "en"),
        ("EN", "en"),
        ("English", "en"),
        (" german ", "de"),
        ("pt-BR", "pt"),
        ("zh_CN", "zh"),
        ("zh-Hant-TW", "zh"),
        ("Haitian Creole", "ht"),
        ("haitian-creole", "ht"),
        ("haitian", "ht"),
        ("Burmese", "my"),
        ("valencian", "ca"),
        ("FLEMISH", "nl"),
        ("mandarin", "zh"),
        ("yue", "yue"),
        ("haw-US", "haw"),
        ("jv", "jw"),
        # as media files and other programs write them
        ("ger", "de"),
        ("deu", "de"),
        ("Deutsch", "de"),
        ("fre", "fr"),
        ("fra", "fr"),
        ("Français", "fr"),
        ("FRANCAIS", "fr"),
        ("Franc\u0327ais", "fr"),
        ("dut", "nl"),
        ("nld", "nl"),
        ("nob", "no"),
        ("nb-NO", "no"),
        ("nno", "nn"),
        ("chi", "zh"),
        ("zho", "zh"),
        ("cmn-Hans-CN", "zh"),
        ("zh-Hans", "zh"),
        ("en-US", "en"),
        ("es-419", "es"),
        ("ca-ES-valencia", "ca"),
        ("de_DE.UTF-8", "de"),
        ("sr_RS@latin", "sr"),
        ("English (US)", "en"),
        ("Portuguese (Brazil)", "pt"),
        ("per", "fa"),
        ("farsi", "fa"),
        ("iw", "he"),
        ("in", "id"),
        ("fil", "tl"),
        ("ΕΛΛΗΝΙΚΆ", "el"),
        ("日本語", "ja"),
        ("Русский", "ru"),
        ("हिन्दी", "hi"),
        ("Tiếng Việt", "vi"),
        ("العربية", "ar"),
    ],
)
def test_a_language_is_known_by_code_tag_name_and_alias_in_any_case(text: str, code: str):
    assert language_code(text) == code


def test_every_alias_leads_to_a_language():
    assert {language_code(alias) for alias in ALIASES} <= set(LANGUAGES)


def test_every_language_has_a_code_of_three_letters_and_a_name_of_its_own():
    by_code: dict[str, list[str]] = {code: [] for code in LANGUAGES}
    for name, code in BY_OTHER_NAMES.items():
        by_code[code].append(name)
        assert language_code(name) == code
    assert all(any(len(name) == 3 for name in names) and len(names) >= 2 for names in by_code.values())


@pytest.mark.parametrize("text", ["und", "mul", "auto", "AUTO"])
def test_a_word_for_no_language_is_answered_with_what_to_do(text: str):
    with pytest.raises(UnknownLanguage) as failure:
        language_code(text)
    assert failure.value.hint == "Leave the language out to detect it."


@given(st.sampled_from([*LANGUAGES.items()]), st.sampled_from([str.upper, str.lower, str.title]))
def test_every_code_and_name_gives_its_code(language: tuple[str, str], write):
    code, name = language
    assert language_code(write(code)) == language_code(write(name)) == code


@pytest.mark.parametrize("text", ["klingon", "xx", "", "-", "en-", "xx-US", "not-a-language", "engl ish"])
def test_an_unknown_language_is_rejected_by_name(text: str):
    with pytest.raises(UnknownLanguage) as failure:
        language_code(text)
    assert repr(text) in failure.value.message
    assert failure.value.code == "unknown_language"


def test_a_misspelt_language_is_answered_with_the_nearest_one():
    with pytest.raises(UnknownLanguage) as failure:
        language_code("Germam")
    assert failure.value.hint == "Did you mean german (de)?"


def test_a_language_like_no_other_gets_the_general_hint():
    with pytest.raises(UnknownLanguage) as failure:
        language_code("qqqqqq")
    assert failure.value.hint == UnknownLanguage.default_hint


@given(st.text(max_size=20))
def test_any_text_gives_a_known_code_or_unknown_language(text: str):
    try:
        assert language_code(text) in LANGUAGES
    except CesarError as error:
        assert isinstance(error, UnknownLanguage)  # noqa: PT017 - either outcome is right
