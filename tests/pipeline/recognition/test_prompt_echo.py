"""Words of the prompt: heard, or only read."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cesar.pipeline.recognition.prompt_echo import prompt_of

HOWTO = "A talk by Jane Roe of Foobar Ltd. about Kubernetes."
HOTWORDS = "Roe, Foobar, Kubernetes"


@pytest.mark.parametrize(("prompt", "hotwords"), [(None, None), ("", ""), (" ", None), (None, "..."), ("", None)])
def test_without_words_there_is_no_prompt(prompt, hotwords):
    assert prompt_of(prompt, hotwords) is None


@pytest.mark.parametrize(
    "text",
    [
        "and Roe, Foobar, Kubernetes, Roe,",
        "Oh, Ebenezer, Ademisoy, you like to use Foobar Ltd.",
        "A talk by Jane Roe.",
        "KUBERNETES",
        "A talk about a talk",
    ],
)
def test_a_text_with_the_prompts_words_may_come_from_it(text):
    prompt = prompt_of(HOWTO, HOTWORDS)
    assert prompt is not None
    assert prompt.is_in(text)


@pytest.mark.parametrize("text", ["and then we saw the Kubernetes of it all in the room", "Operators, I heard."])
def test_one_long_word_of_the_prompt_is_enough(text):
    """Such words were written into far-field speech, one in a long sentence."""
    prompt = prompt_of("A talk on Kubernetes operators.", None)
    assert prompt is not None
    assert prompt.is_in(text)


@pytest.mark.parametrize(
    "text", ["And so, my fellow Americans, ask not what your country can do for you.", "I heard of it.", ""]
)
def test_common_words_are_no_sign_of_the_prompt(text):
    prompt = prompt_of(HOWTO, HOTWORDS)
    assert prompt is not None
    assert not prompt.is_in(text)


@pytest.mark.parametrize(
    ("prompted", "unprompted"),
    [
        ("We use Kubernetes.", "We use Kubernetes."),
        ("We use Kubernetes.", "We use Cooper Netties."),
        ("Kubernetes", "Cuban nettles"),
        ("Roe, Foobar, Kubernetes", "Row, Fubar, Cooper Netties."),
        ("My name is Siobhan and I live here.", "My name is Chevonne and I live here."),
        ("Jane Roe gave a talk about Kubernetes.", "Jane Row gave a talk about Cubanities."),
        ("It is good, I think.", "It is bad."),
    ],
)
def test_words_that_sound_similar_or_stand_between_the_same_ones_are_confirmed(prompted, unprompted):
    prompt = prompt_of(HOWTO, f"{HOTWORDS}, Siobhan")
    assert prompt is not None
    assert prompt.is_confirmed(prompted, unprompted)


@pytest.mark.parametrize(
    ("prompted", "unprompted"),
    [
        ("Roe of Foobar Ltd. about Kubernetes.", "It's not right."),
        ("Roe, Esnah Roe.", "It's not right."),
        ("Okonkwo", "It's not right."),
        ("Okonkwo, it's not right", "It's not right."),
        ("Kubernetes, Kubernetes, Kubernetes, Kubernetes", "I don't know if you know how to do it."),
        ("Oh, Ebenezer, you like to use Foobar Ltd.", "Oh, Ebenezer. I don't know. He's like he's about it."),
        ("and Roe, Foobar, Kubernetes, Roe,", ""),
        ("So we begin. Foobar, Kubernetes.", "So we begin."),
    ],
)
def test_words_that_only_the_prompt_has_are_not_confirmed(prompted, unprompted):
    prompt = prompt_of(HOWTO, f"{HOTWORDS}, Okonkwo")
    assert prompt is not None
    assert not prompt.is_confirmed(prompted, unprompted)


PROMPTS = {
    "zh": "欢迎收看明镜新闻，我是王小明，今天我们谈论人工智能。",
    "ja": "山田太郎です。今日は東京タワーについて話します。",
    "ru": "Меня зовут Иван Воронцов. Сегодня мы говорим о Кубернетес.",
    "el": "Παπαδόπουλος, Θεσσαλονίκη",
    "ar": "أهلا وسهلا بكم في برنامج الصباح مع أحمد الخطيب",
    "th": "สวัสดีครับ ผมชื่อสมชาย อยู่กรุงเทพมหานคร",
    "hi": "नमस्ते, मेरा नाम विक्रमादित्य है",
    "ko": "서울특별시 김철수 쿠버네티스",
    "emoji": "😀🎉🚀 Party 🎈🎈🎈",
}


@pytest.mark.parametrize(
    ("prompt", "text", "language"),
    [
        ("zh", "欢迎智能。", "zh"),
        ("zh", "我是王小明", "zh"),
        ("ja", "東京タワーについて話します。", "en"),
        ("ja", "東京タワーについて話します。", "ja"),
        ("ru", "Меня зовут Иван Воронцов.", "ru"),
        ("ru", "Мени гаварым", "en"),
        ("el", "Θεσσαλονίκη", "el"),
        ("ar", "برنامج الصباح", "ar"),
        ("th", "ผมชื่อสมชาย", "th"),
        ("hi", "मेरा नाम", "hi"),
        ("ko", "김요별스틜 쿠버수", "en"),
        ("emoji", "I'm not here to feel fine 🎈🎈🎈", "en"),
    ],
)
def test_words_of_a_prompt_in_any_script_are_rejected_if_nothing_similar_is_recognised(prompt, text, language):
    known = prompt_of(PROMPTS[prompt], None)
    assert known is not None
    assert known.is_in(text, language)
    assert not known.is_confirmed(text, "It's not right.", language)


@pytest.mark.parametrize(
    ("prompt", "text", "unprompted", "language"),
    [
        ("zh", "我是王小明。", "我是王晓明。", "zh"),
        ("zh", "今天的天气很好", "今天的天气很好", "zh"),
        ("ja", "東京タワーに行きました。", "東京タワーに行きました。", "ja"),
        ("ru", "Меня зовут Иван Воронцов.", "Меня зовут Иван Воронцев.", "ru"),
        ("ru", "Иван Воронцов", "Иван Варанцов", "ru"),
        ("hi", "मेरा नाम विक्रमादित्य है", "मेरा नाम विक्रम आदित्य है", "hi"),
        ("th", "ผมชื่อสมชาย", "ผมชื่อสมชัย", "th"),
    ],
)
def test_words_of_a_prompt_in_any_script_are_confirmed_by_similar_words(prompt, text, unprompted, language):
    known = prompt_of(PROMPTS[prompt], None)
    assert known is not None
    assert known.is_confirmed(text, unprompted, language)


@pytest.mark.parametrize(
    ("prompt", "text", "language"),
    [
        ("zh", "他说这个很贵", "zh"),
        ("ja", "電車が遅れているので、駅で待っていました。", "ja"),
        ("ru", "Поезд опаздывает на десять минут", "ru"),
        ("th", "รถไฟมาช้ามาก", "th"),
    ],
)
def test_another_text_in_the_prompts_script_does_not_come_from_it(prompt, text, language):
    known = prompt_of(PROMPTS[prompt], None)
    assert known is not None
    assert not known.is_in(text, language)


@given(st.text(max_size=40), st.text(max_size=40))
def test_any_text_can_be_compared_with_any_prompt(text, prompt):
    if known := prompt_of(prompt, None):
        known.is_in(text, "en")
        assert known.is_confirmed(text, text, "en")


words = st.lists(st.sampled_from(["a", "Roe", "talk", "Kubernetes", "not", "it's", "谢谢", "Straße"]), max_size=12)


@given(words, words)
def test_words_that_both_texts_have_are_always_confirmed(said, prompt):
    text = " ".join(said)
    known = prompt_of(" ".join(prompt), " ".join(prompt))
    assert known is None or known.is_confirmed(text, text)


@given(words, words, words)
def test_any_two_texts_can_be_compared(prompted, unprompted, prompt):
    if known := prompt_of(" ".join(prompt), None):
        known.is_confirmed(" ".join(prompted), " ".join(unprompted))
        known.is_in(" ".join(prompted))
