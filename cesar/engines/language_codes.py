"""Other codes and names of the languages that Whisper knows: ISO 639-2 and 639-3 codes, and native names.

Media files give the language of a track as an ISO 639-2 code (MP4, Matroska, MPEG-TS), a BCP 47 tag, or a name.
"""

from __future__ import annotations

_TABLE = """
af | afr | afrikaans
am | amh | አማርኛ
ar | ara arb arz apc ary acm ajp afb | العربية
as | asm | অসমীয়া
az | aze azj azb | azərbaycan dili, azərbaycanca
ba | bak | башҡорт теле, башҡортса
be | bel | беларуская, беларуская мова
bg | bul | български, български език
bn | ben | বাংলা
bo | bod tib | བོད་སྐད
br | bre | brezhoneg
bs | bos | bosanski
ca | cat | català, valencià
cs | ces cze | čeština, česky, český
cy | cym wel | cymraeg
da | dan | dansk
de | deu ger gsw | deutsch
el | ell gre | ελληνικά
en | eng | english
es | spa | español, castellano
et | est ekk | eesti, eesti keel
eu | eus baq | euskara
fa | fas per pes prs | فارسی, farsi, dari
fi | fin | suomi
fo | fao | føroyskt
fr | fra fre | français
gl | glg | galego
gu | guj | ગુજરાતી
ha | hau | hausa
haw | haw | ʻōlelo hawaiʻi
he | heb iw | עברית
hi | hin | हिन्दी, हिंदी
hr | hrv scr | hrvatski
ht | hat | kreyòl ayisyen
hu | hun | magyar
hy | hye arm | հայերեն
id | ind in | bahasa indonesia
is | isl ice | íslenska
it | ita | italiano
ja | jpn | 日本語
jw | jav jv | basa jawa
ka | kat geo | ქართული
kk | kaz | қазақ тілі, қазақша
km | khm | ខ្មែរ, ភាសាខ្មែរ
kn | kan | ಕನ್ನಡ
ko | kor | 한국어
la | lat | latina
lb | ltz | lëtzebuergesch
ln | lin | lingála
lo | lao | ລາວ, ພາສາລາວ
lt | lit | lietuvių, lietuvių kalba
lv | lav lvs | latviešu, latviešu valoda
mg | mlg plt | malagasy
mi | mri mao | te reo māori
mk | mkd mac | македонски
ml | mal | മലയാളം
mn | mon khk | монгол, монгол хэл
mr | mar | मराठी
ms | msa may zsm zlm | bahasa melayu
mt | mlt | malti
my | mya bur | မြန်မာ, မြန်မာဘာသာ
ne | nep npi | नेपाली
nl | nld dut vls | nederlands, vlaams
nn | nno | norsk nynorsk, norwegian nynorsk
no | nor nob nb | norsk, bokmål, norsk bokmål, norwegian bokmål
oc | oci | occitan
pa | pan | ਪੰਜਾਬੀ
pl | pol | polski
ps | pus pbt pbu pst | پښتو
pt | por | português
ro | ron rum mo mol | română
ru | rus | русский, русский язык
sa | san | संस्कृतम्
sd | snd | سنڌي
si | sin | සිංහල
sk | slk slo | slovenčina, slovensky, slovenský
sl | slv | slovenščina, slovensko, slovenski
sn | sna | chishona
so | som | soomaali, af soomaali
sq | sqi alb als aln | shqip
sr | srp scc | српски, srpski
su | sun | basa sunda
sv | swe | svenska
sw | swa swh | kiswahili
ta | tam | தமிழ்
te | tel | తెలుగు
tg | tgk | тоҷикӣ
th | tha | ไทย, ภาษาไทย
tk | tuk | türkmençe, türkmen dili
tl | tgl fil | filipino, wikang tagalog
tr | tur | türkçe
tt | tat | татар теле, татарча
uk | ukr | українська, українська мова
ur | urd | اردو
uz | uzb uzn | oʻzbek, oʻzbekcha, o'zbek, o'zbekcha
vi | vie | tiếng việt
yi | yid ydd ji | ייִדיש
yo | yor | yorùbá
yue | yue | 粵語, 粤语, 廣東話, 广东话
zh | zho chi cmn | 中文, 汉语, 漢語, 普通话, 國語, 国语, 官話
"""
"""One line per language: Whisper's code, the other codes, and its native names."""


def _by_other_names() -> dict[str, str]:
    found: dict[str, str] = {}
    for line in _TABLE.strip().splitlines():
        code, others, names = (part.strip() for part in line.split("|"))
        found.update(dict.fromkeys([*others.split(), *names.split(", ")], code))
    return found


BY_OTHER_NAMES = _by_other_names()
"""Whisper's code by each other code or native name of a language."""
