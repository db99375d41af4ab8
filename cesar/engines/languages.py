"""The languages Whisper knows, and how people write their names.

Codes and English names are those of openai/whisper (`whisper/tokenizer.py`). Models of the large-v3 family
know all of them, older multilingual ones all but Cantonese (yue); which ones a model knows, its engine says.
"""

from __future__ import annotations

import difflib
import re

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
    # ISO codes for which Whisper uses another one:
    "jv": "jw",
    "nb": "no",
    "fil": "tl",
}
"""Code by another name of the same language."""

_CODES = {**{code: code for code in LANGUAGES}, **{name: code for code, name in LANGUAGES.items()}, **ALIASES}
_TAG = re.compile(r"([a-z]{2,3})([-_][a-z0-9]{2,8})+")


def language_code(text: str) -> str:
    """Give the code of a language written as a code, a tag (pt-BR, zh_CN) or an English name, in any case.

    Raises `UnknownLanguage`, with the nearest names as its hint where there are any.
    """
    wanted = " ".join(text.split()).lower()
    tag = _TAG.fullmatch(wanted)
    code = _CODES.get(wanted) or _CODES.get(re.sub("[-_]", " ", wanted)) or (tag and _CODES.get(tag[1]))
    if code:
        return code
    raise UnknownLanguage(f"the language {text!r} is not known", hint=_near_matches(wanted))


def _near_matches(wanted: str) -> str | None:
    names = [name for name in _CODES if len(name) > 3]
    near = difflib.get_close_matches(wanted, names, n=3, cutoff=0.7)
    if not near:
        return None
    return f"Did you mean {' or '.join(f'{name} ({_CODES[name]})' for name in near)}?"
