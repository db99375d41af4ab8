"""Recordings in a folder, recognised by file extension, and what is left out."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_MEDIA_EXTENSIONS = """
    16sv 302 3g2 3ga 3gp 3gp2 3gpp 722 8svx aa aa3 aac aax ac3 ac4 acm adp ads adts adx aea afc aif aifc aiff aix al
    amr amv aob apc ape apl aptx aptxhd asf ast au avi avr awb bcstm bfstm bik binka bit bitpacked bmv bonk brstm
    bw64 bwf c2 caf cdxl daud dav dfpwm dif divx dsf dss dtk dts dtshd dv dvd dvr-ms eac3 ec3 evo f4a f4b f4p f4v
    fap flac flv fsb fwse g722 g723_1 g728 g729 genh gsm gxf hca hcom iamf ifv ilbc ircam ism isma ismv ivr kux laf
    latm lbc lc3 loas lvf lxf m1a m2a m2p m2t m2ts m4a m4b m4p m4r m4v mac mca mj2 mk3d mka mkv mlp mmf mod mods
    moflex mov mp+ mp1 mp2 mp3 mp4 mp4a mpa mpc mpe mpeg mpg mpga mpp msbc msf mtaf mts musx mvi mxf mxg nist nsp
    nsv nut nuv oga ogg ogm ogv ogx oma omg opus osq paf pdv psp pva pvf qcp qoa qt ra rco rf64 rka rm rmvb roq rsd
    rso rv sb sbc sdns sdr2 sds sdx sf sga shn sln smk snd son sox sph spx ss2 str svag svs sw swf tak tco thd tod
    tp trp ts tta ty ty+ ub ul usm uw vag vb viv vob voc vpk vqe vqf vql vro w64 wa wav wave way weba webm wma wmv
    wsd wtv wv wve xa xl xmd xmv xvag xvid yop
"""
MEDIA_SUFFIXES = frozenset(f".{extension}" for extension in _MEDIA_EXTENSIONS.split())
"""Extensions of media files in a folder. A file that is given itself may have any extension.

Every extension that FFmpeg's demuxers name, except those below, and others that recorders and editors write.
"""
_SOUNDLESS_EXTENSIONS = """
    264 265 266 adf ans apv aqt art asc avc avif avs avs2 avs3 cdata cdg cif diz evc flm gif h261 h264 h265
    h266 h26l heic heif hevc ice idf idx imx ipu j2k jxl mcc mjpeg mjpg mks mpl2 mpo nfo obu pjs qcif rcv rgb rt
    sami sbg scc ser smi stl sub sup txt v210 vc1 vt vtt vvc webvtt y4m yuv yuv10
"""
SOUNDLESS_SUFFIXES = frozenset(f".{extension}" for extension in _SOUNDLESS_EXTENSIONS.split())
"""Extensions of FFmpeg's demuxers for pictures, subtitles, text art and video without sound."""
AMBIGUOUS_SUFFIXES = frozenset({".cgi", ".dat", ".v"})
"""Extensions of demuxers whose files are nearly always something else: left out and reported."""
_DOCUMENT_EXTENSIONS = """
    arw ass bdm bmp cfg cpi cr2 csv cue db desktop dng doc docx htm html ico ini jp2 jpeg jpg json lnk log lrc md
    md5 nef ods odt pdf png psd py rtf sfv sh sha1 sha256 srt ssa svg tex thm tif tiff toml tsv url webp xls
    xlsx xml xmp yaml yml
"""
_IGNORED_SUFFIXES = SOUNDLESS_SUFFIXES.union(f".{extension}" for extension in _DOCUMENT_EXTENSIONS.split())
"""Files that commonly lie beside recordings (texts, subtitles, pictures): left out without a report."""
_MAX_EXAMPLES = 3


@dataclass(frozen=True, slots=True)
class Contents:
    """The direct contents of a folder, sorted by name."""

    media: tuple[Path, ...]
    left_out: tuple[str, ...] = ()
    """Names of files that may have sound but are not taken for recordings, and of folders, ending in a slash."""


def scan_folder(folder: Path) -> Contents:
    """Return the folder's direct contents, divided into recordings and the rest. Raises OSError."""
    media: list[Path] = []
    left_out: list[str] = []
    for name in sorted(os.listdir(folder)):  # noqa: PTH208 - names are what is sorted and filtered
        path, suffix = folder / name, os.path.splitext(name)[1].lower()  # noqa: PTH122 - Path("a.").suffix differs
        is_hidden = name.startswith(".")
        if os.path.isdir(path):  # noqa: PTH112 - unlike Path.is_dir it never raises
            left_out += [] if is_hidden else [f"{name}/"]
        elif is_hidden:
            left_out += [name] if suffix in MEDIA_SUFFIXES and not name.startswith("._") else []
        elif suffix in MEDIA_SUFFIXES and (os.path.isfile(path) or not os.path.exists(path)):  # noqa: PTH110, PTH113
            media.append(path)  # even if it can't be accessed: its problem is reported when its turn comes
        elif suffix not in _IGNORED_SUFFIXES:
            left_out.append(name)
    return Contents(tuple(media), tuple(left_out))


def describe_left_out(folder: Path, left_out: Sequence[str]) -> str:
    """Return a line that says what is left out of a folder.

    >>> describe_left_out(Path("talks"), ("a.bin", "b.bin", "c.bin", "old/"))
    'talks: 3 files (a.bin, b.bin, c.bin) and 1 folder (old/) left out; name them explicitly to transcribe them'
    """
    folders = [name for name in left_out if name.endswith("/")]
    files = [name for name in left_out if not name.endswith("/")]
    counted = [_count_with_examples(names, what) for names, what in ((files, "file"), (folders, "folder")) if names]
    return f"{folder}: {' and '.join(counted)} left out; name them explicitly to transcribe them"


def _count_with_examples(names: list[str], what: str) -> str:
    examples = ", ".join(names[:_MAX_EXAMPLES]) + (", …" if len(names) > _MAX_EXAMPLES else "")
    return f"{len(names)} {what}{'s' if len(names) > 1 else ''} ({examples})"
