"""Whisper's hallucinations: the few phrases that make up most of what it writes where nobody speaks.

They come from subtitles in its training data. Real speakers are detected clearly, so a phrase counts as a
hallucination only where the detector was uncertain, or where there is too little speech for it.
(Barański et al., arXiv 2501.11378: a small bag of phrases covers most hallucinations, and neither it nor speech
detection suffices alone.)
"""

from __future__ import annotations

import re
import unicodedata

_COURTESIES = """
    you
    bye
    bye bye
    bye-bye
    the end
    thank you
    thank you very much
    thank you so much
    thanks
    vielen dank
    danke
    merci
    merci beaucoup
    gracias
    muchas gracias
    grazie
    obrigado
    obrigada
    tack
    tak
    dziękuję
    děkuji
    teşekkürler
    продолжение следует
    спасибо
    спасибо за внимание
    ありがとうございました
    谢谢
    谢谢大家
    謝謝
    감사합니다
    고맙습니다
"""
"""Phrases that people do say, once or several times."""

_OUTROS = """
    thanks for watching
    thank you for watching
    thank you for watching this video
    thanks for listening
    thank you for listening
    please subscribe
    please subscribe to my channel
    like and subscribe
    don't forget to like and subscribe
    i'll see you in the next video
    see you in the next video
    see you next time
    bis zum nächsten mal
    vielen dank fürs zuschauen
    danke fürs zuschauen
    merci d'avoir regardé cette vidéo
    merci d'avoir regardé
    abonnez-vous
    n'oubliez pas de vous abonner
    gracias por ver el video
    gracias por ver
    suscríbete al canal
    grazie per aver guardato il video
    grazie per la visione
    iscrivetevi al canale
    obrigado por assistir
    inscreva-se no canal
    bedankt voor het kijken
    tack för att ni tittade
    tak fordi du så med
    takk for at du så på
    kiitos kun katsoit
    dziękuję za oglądanie
    dziękuję za uwagę
    děkuji za pozornost
    köszönöm a figyelmet
    izlediğiniz için teşekkürler
    izlediğiniz için teşekkür ederim
    дякую за перегляд
    спасибо за просмотр
    спасибо за субтитры
    подписывайтесь на канал
    подпишись на канал
    cảm ơn các bạn đã theo dõi
    hẹn gặp lại các bạn
    terima kasih telah menonton
    اشتركوا في القناة
    ご視聴ありがとうございました
    ご清聴ありがとうございました
    最後までご視聴ありがとうございました
    チャンネル登録をお願いいたします
    谢谢观看
    感谢观看
    谢谢收看
    請不吝點贊訂閱轉發打賞支持明鏡與點點欄目
    请不吝点赞订阅转发打赏支持明镜与点点栏目
    明镜与点点栏目
    優優獨播劇場
    시청해주셔서 감사합니다
    구독과 좋아요 부탁드립니다
    다음 영상에서 만나요
"""
"""Phrases that end a video, and are said once."""

_CREDIT = re.compile(
    r"\bamara ?org\b|\bdimatorzok\b|\bqtss\b|\bm k$|\bst ?501\b|\bradio ?canada$"
    r"|^(subtitles?|captions?|captioning|subtitling|transcription|translation) (by|from)\b"
    r"|^(die )?untertitel(ung)? (der|des|von|im auftrag|aufgrund)\b|^copyright (wdr|zdf|ndr|swr|br|mdr|ard)\b"
    r"|^sous ?titr(es|age)\b|^soustitr(es|age)\b|^subt[ií]tulos (realizados|por|de)\b"
    r"|^(sottotitoli|sottotitolato) .*(cura|creati|revisione)\b|^(legendas?|legendado) (pela|por)\b"
    r"|^ondertitel(s|d|ing)\b|^(undertekster|undertexter|tekstet|textning|tekstitys)\b|^napisy (stworzone|wykonał|by)\b"
    r"|^titulky (vytvořil|by)\b|^altyaz[ıi]\b|^субтитр\w* (сделал|создавал|подогнал|делал|от|и)\b|^редактор субтитров\b"
    r"|^字幕|字幕(提供|制作|志愿者|組|组)|^中文字幕|^한글자막|자막 (제공|by)|^ترجمة نانسي"
)
"""Subtitle credits, which nobody says but somebody may read aloud; matched against `_plain` text."""

_DOUBTFUL = 0.6
_MIN_LETTERS_PER_S = 5.0
"""Minimum of a phrase that fills its speech; there is always some silence within, and breath around."""
_MAX_LETTERS_PER_S = 25.0
"""Sustained speech has 10 to 20; the fastest utterance in 5,000 s of real speech of all kinds had 21."""
_MARGIN_S = 0.3
"""Detectors notice soft onsets late."""


def is_hallucination(text: str, speech_confidence: float, speech_s: float) -> bool:
    """Return whether the text consists of known hallucinations, and the speech is uncertain or too short for them.

    speech_confidence, speech_s: the detector's confidence in the speech under the text, and its length.

    >>> is_hallucination("Thank you.", 0.4, 1.0), is_hallucination("Thank you.", 0.98, 1.0)
    (True, False)
    >>> is_hallucination("Thanks for watching. Thanks for watching.", 0.98, 2.0)
    True
    """
    phrases = _phrases(text)
    if not phrases:
        return False
    if speech_confidence < _DOUBTFUL or is_too_fast(text, speech_s):
        return True
    rehearsed = [phrase for phrase in phrases if phrase not in _COMMON]
    return len(rehearsed) > len(set(rehearsed)) or _is_too_slow(rehearsed, speech_s)


def is_too_fast(text: str, speech_s: float) -> bool:
    """Return whether the text is too long for so many seconds of speech.

    >>> is_too_fast("Thanks for watching.", 0.06), is_too_fast("Thanks for watching.", 0.9)
    (True, False)
    """
    return count_letters(text) > _MAX_LETTERS_PER_S * (speech_s + _MARGIN_S)


def count_letters(text: str) -> int:
    """Return the number of letters to pronounce; a wide one (Chinese, Japanese, Korean) is a syllable and counts 3.

    >>> count_letters("So, so!"), count_letters("谢谢")
    (4, 6)
    """
    return sum(3 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in text if letter.isalnum())


def _is_too_slow(phrases: list[str], speech_s: float) -> bool:
    """Return whether the phrases are too short for the speech, which must then be something else."""
    return bool(phrases) and sum(map(count_letters, phrases)) < _MIN_LETTERS_PER_S * (speech_s - 1.0)


def _phrases(text: str) -> list[str]:
    """Return the known phrases that the text consists of; none if it has anything else."""
    whole = _plain(text)
    if whole in _KNOWN or _CREDIT.search(whole):
        return [whole]
    parts = [plain for part in _SENTENCE_END.split(text) if (plain := _plain(part))]
    if parts and all(part in _KNOWN or _CREDIT.search(part) for part in parts):
        return parts
    return _repeated(whole)


def _repeated(whole: str) -> list[str]:
    """Return a known phrase as often as the text repeats it without punctuation."""
    words = whole.split()
    for length in range(1, len(words) // 2 + 1):
        phrase = " ".join(words[:length])
        if len(words) % length == 0 and phrase in _KNOWN and words == words[:length] * (len(words) // length):
            return [phrase] * (len(words) // length)
    return []


def _plain(text: str) -> str:
    kept = "".join(letter for letter in text.lower() if letter.isalnum() or letter.isspace() or letter in _ACCENTS)
    return " ".join(kept.split())


_ACCENTS = frozenset(chr(code) for code in range(0x300, 0x370))
_SENTENCE_END = re.compile(r"[.!?…。！？♪]+(?!\w)|(?<=[。！？])|\n")
_COMMON = frozenset(_plain(phrase) for phrase in _COURTESIES.strip().splitlines())
_KNOWN = _COMMON | frozenset(_plain(phrase) for phrase in _OUTROS.strip().splitlines())
