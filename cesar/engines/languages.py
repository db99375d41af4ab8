"""The languages Whisper knows, and how people write their names.

Codes and English names are those of openai/whisper (`whisper/tokenizer.py`). Models of the large-v3 family
know all of them, older multilingual ones all but Cantonese (yue); which ones a model knows, its engine says.
"""

from __future__ import annotations

import difflib
import re
import unicodedata

from cesar.engines.language_codes import BY_OTHER_NAMES
from cesar.errors import UnknownLanguage

LANGUAGES: dict[str, str] = {
    "en": "english",
    "zh": "chinese",
    "de": "german",
    "es": "spanish",
    "ru": "russian",
    "ko": "korean",
    "fr": "french",
    "ja": "japanese",
    "pt": "portuguese",
    "tr": "turkish",
    "pl": "polish",
    "ca": "catalan",
    "nl": "dutch",
    "ar": "arabic",
    "sv": "swedish",
    "it": "italian",
    "id": "indonesian",
    "hi": "hindi",
    "fi": "finnish",
    "vi": "vietnamese",
    "he": "hebrew",
    "uk": "ukrainian",
    "el": "greek",
    "ms": "malay",
    "cs": "czech",
    "ro": "romanian",
    "da": "danish",
    "hu": "hungarian",
    "ta": "tamil",
    "no": "norwegian",
    "th": "thai",
    "ur": "urdu",
    "hr": "croatian",
    "bg": "bulgarian",
    "lt": "lithuanian",
    "la": "latin",
    "mi": "maori",
    "ml": "malayalam",
    "cy": "welsh",
    "sk": "slovak",
    "te": "telugu",
    "fa": "persian",
    "lv": "latvian",
    "bn": "bengali",
    "sr": "serbian",
    "az": "azerbaijani",
    "sl": "slovenian",
    "kn": "kannada",
    "et": "estonian",
    "mk": "macedonian",
    "br": "breton",
    "eu": "basque",
    "is": "icelandic",
    "hy": "armenian",
    "ne": "nepali",
    "mn": "mongolian",
    "bs": "bosnian",
    "kk": "kazakh",
    "sq": "albanian",
    "sw": "swahili",
    "gl": "galician",
    "mr": "marathi",
    "pa": "punjabi",
    "si": "sinhala",
    "km": "khmer",
    "sn": "shona",
    "yo": "yoruba",
    "so": "somali",
    "af": "afrikaans",
    "oc": "occitan",
    "ka": "georgian",
    "be": "belarusian",
    "tg": "tajik",
    "sd": "sindhi",
    "gu": "gujarati",
    "am": "amharic",
    "yi": "yiddish",
    "lo": "lao",
    "uz": "uzbek",
    "fo": "faroese",
    "ht": "haitian creole",
    "ps": "pashto",
    "tk": "turkmen",
    "nn": "nynorsk",
    "mt": "maltese",
    "sa": "sanskrit",
    "lb": "luxembourgish",
    "my": "myanmar",
    "bo": "tibetan",
    "tl": "tagalog",
    "mg": "malagasy",
    "as": "assamese",
    "tt": "tatar",
    "haw": "hawaiian",
    "ln": "lingala",
    "ha": "hausa",
    "ba": "bashkir",
    "jw": "javanese",
    "su": "sundanese",
    "yue": "cantonese",
}
"""English name by code, in the order of Whisper's language tokens."""

ALIASES: dict[str, str] = {
    "burmese": "my",
    "valencian": "ca",
    "flemish": "nl",
    "haitian": "ht",
    "letzeburgesch": "lb",
    "pushto": "ps",
    "panjabi": "pa",
    "moldavian": "ro",
    "moldovan": "ro",
    "sinhalese": "si",
    "castilian": "es",
    "mandarin": "zh",
}
"""Code by another English name of the same language."""


def _folded(name: str) -> str:
    """Remove case and accents, so that `Francais` matches `français`."""
    decomposed = unicodedata.normalize("NFKD", " ".join(name.split()).casefold())
    return "".join(character for character in decomposed if not unicodedata.combining(character))


_CODES = {
    **{_folded(name): code for name, code in BY_OTHER_NAMES.items()},
    **{code: code for code in LANGUAGES},
    **{name: code for code, name in LANGUAGES.items()},
    **ALIASES,
}
_TAG = re.compile(r"([a-z]{2,3})(?:[-_][a-z0-9]{1,8})+(?:\.[a-z0-9-]+)?(?:@[a-z]+)?")
_REMARK = re.compile(r"\s*[(\[].*[)\]]")
UNKNOWN = "unknown"
"""The language of a transcript without speech."""
_UNDETERMINED = frozenset(("und", "mul", "mis", "zxx", "qaa", "auto", "detect", UNKNOWN))
"""Placeholders for an unknown language: ISO 639-2 codes and words of other programs."""


def language_code(text: str) -> str:
    """Return the code of a language given in any of the usual forms, in any case.

    Accepts an ISO 639-1, -2 (both kinds) or -3 code, a tag (`pt-BR`, `zh_CN.UTF-8`), or its name in English or in
    the language itself, with or without accents and a remark in parentheses.
    Raises `UnknownLanguage`, with the nearest names as its hint if there are any.

    >>> [language_code(text) for text in ("ger", "Deutsch", "pt-BR", "nob", "English (US)")]
    ['de', 'de', 'pt', 'no', 'en']
    """
    wanted = _folded(text)
    bare = _REMARK.sub("", wanted)
    tag = _TAG.fullmatch(bare)
    for name in (wanted, bare, re.sub("[-_]", " ", bare), tag[1] if tag else ""):
        if code := _CODES.get(name):
            return code
    hint = "Leave the language out to detect it." if wanted in _UNDETERMINED else _near_matches(wanted)
    raise UnknownLanguage(f"the language {text!r} is not known", hint=hint)


def language_name(code: str) -> str:
    """Return a language's English name as written in a sentence: `German` for `de`."""
    return LANGUAGES.get(code, code).title()


def _near_matches(wanted: str) -> str | None:
    names = [name for name in (*LANGUAGES.values(), *ALIASES) if len(name) > 3]
    near = difflib.get_close_matches(wanted, names, n=3, cutoff=0.7)
    if not near:
        return None
    return f"Did you mean {' or '.join(f'{name} ({_CODES[name]})' for name in near)}?"
