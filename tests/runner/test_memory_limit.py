"""The memory limit of a child, and its priority for the OOM killer (Linux)."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from cesar import AudioTranscriber, TranscribeOptions
from cesar.engines.hardware import Plan, total_memory
from cesar.errors import ChildKilled
from cesar.runner.memory_limit import allowance
from tests.runner.support import JFK

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits and chooses so")]
MB, GB = 2**20, 2**30
MODELS = {"tiny": 75 * MB, "base": 145 * MB, "small": 484 * MB, "medium": 1528 * MB, "large-v3": 3087 * MB}
"""The size of their weights."""
BEGINNING = TranscribeOptions(language="en", end=5.0)


def plan(workers: int = 2, device: str = "cpu") -> Plan:
    return Plan(device, "int8", workers=workers, threads_per_worker=1, batch_size=8)


def data_limit(pid: int) -> int:
    [line] = [line for line in Path(f"/proc/{pid}/limits").read_text().splitlines() if line.startswith("Max data size")]
    found = re.search(r"Max data size\s+(\d+)", line)
    assert found, line
    return int(found[1])


def test_a_recording_that_exhausts_memory_gets_an_error_and_the_next_call_works(faulty):
    transcriber = faulty({"at": 8.0, "do": "devour"})
    with pytest.raises(ChildKilled, match=r"reached its memory limit while transcribing jfk\.m4a, twice") as caught:
        transcriber.transcribe(JFK)
    assert not caught.value.is_transient, "the job would be retried"
    assert transcriber.transcribe(JFK, BEGINNING).segments


def test_native_code_that_aborts_for_lack_of_memory_is_reported_as_out_of_memory(faulty, monkeypatch, tmp_path):
    (tmp_path / "sitecustomize.py").write_text(
        "import os\nos.write(2, b\"terminate called after throwing an instance of 'std::bad_alloc'\\n\")\nos.abort()\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(ChildKilled, match="reached its memory limit"):
        faulty().transcribe(JFK)


def test_a_child_has_a_memory_limit_and_the_highest_oom_score(faulty, children):
    before, seen = children(), list[int]()
    transcriber = faulty()

    def look():
        [child] = children() - before
        seen[:] = [data_limit(child), int(Path(f"/proc/{child}/oom_score_adj").read_text())]

    transcriber.transcribe(JFK, on_begin=look)
    limit, score = seen
    assert GB <= limit <= 2 * GB
    assert score == 1000 > int(Path("/proc/self/oom_score_adj").read_text())


@pytest.mark.model
@pytest.mark.parametrize("name", ["base", "tiny.en"])
def test_a_real_model_has_enough_memory_and_little_more(name, children):
    before, seen = children(), set[int]()

    def look():
        seen.update(data_limit(child) for child in children() - before)

    assert AudioTranscriber(name).transcribe(JFK, TranscribeOptions(language="en"), on_begin=look).segments
    if seen:  # it may be warm
        [limit] = seen
        assert 1.6 * GB < limit < 3 * GB or limit >= total_memory()


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("workers", [1, 2, 8])
def test_every_model_has_a_gigabyte_beyond_the_memory_of_its_batches(name, workers):
    size = MODELS[name]
    loaded = 2 * size
    assert allowance(plan(workers), size, loaded, 1024 * GB) >= loaded + workers * 8 * size // 8 + GB


def test_the_memory_limit_is_at_most_the_machines_memory_but_enough_to_start():
    assert allowance(plan(8), MODELS["large-v3"], 4 * GB, 8 * GB) == 8 * GB
    assert allowance(plan(), MODELS["base"], 400 * MB, 300 * MB) == 400 * MB + GB // 2


def test_the_machines_memory_is_known():
    assert total_memory() > GB // 2
