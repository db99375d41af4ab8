"""What Whisper writes where nobody speaks: the few phrases that make up most of its inventions.

They come from subtitles in its training data. Whoever really says one of them is heard clearly; so a phrase counts as
invented only where the speech detector doubted that there was speech at all. (Barański et al., arXiv 2501.11378: a
small bag of phrases covers most inventions, and neither it nor speech detection suffices alone.)
"""

from __future__ import annotations

_PHRASES = frozenset(
    """
    you
    bye
    bye bye
    the end
    thank you
    thank you very much
    thank you so much
    thanks for watching
    thank you for watching
    thank you for listening
    please subscribe
    like and subscribe
    please subscribe to my channel
    i'll see you in the next video
    subtitles by the amara.org community
    untertitel der amara.org-community
    untertitel im auftrag des zdf für funk 2017
    vielen dank
    sous-titres réalisés par la communauté d'amara.org
    sous-titrage société radio-canada
    merci
    gracias
    subtítulos realizados por la comunidad de amara.org
    sottotitoli creati dalla comunità amara.org
    grazie
    legendas pela comunidade amara.org
    obrigado
    продолжение следует
    спасибо
    субтитры сделал dimatorzok
    ご視聴ありがとうございました
    字幕由amara.org社区提供
    谢谢观看
    谢谢大家
    시청해주셔서 감사합니다
    감사합니다
    """.strip().splitlines()
)
_DOUBTFUL = 0.6


def is_invented(text: str, speech_confidence: float) -> bool:
    """Whether the text is one of the known inventions, in a place where speech is doubtful.

    >>> is_invented("Thank you.", speech_confidence=0.4), is_invented("Thank you.", speech_confidence=0.98)
    (True, False)
    """
    return speech_confidence < _DOUBTFUL and _plain(text) in _KNOWN


def _plain(text: str) -> str:
    kept = "".join(character for character in text.lower() if character.isalnum() or character.isspace())
    return " ".join(kept.split())


_KNOWN = frozenset(_plain(phrase) for phrase in _PHRASES)
