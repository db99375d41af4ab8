"""Transcripts over HTTP: in every format, whole and in part, and without anything of this machine."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cesar.api.http.responses.negotiation import choose, etag_matches
from cesar.api.models import Job, JobStatus
from cesar.formats import FORMATS, render
from cesar.formats.subtitles.cues import SubtitleOptions
from cesar.transcript import Chunk, ModelIdentity, Segment, Span, Transcript
from tests.api.http.support import ServiceCase, require_problem

OFFERS = {name: known.media_type for name, known in FORMATS.items()}
CHUNKS = tuple(
    Chunk(at, at + 10, (Segment(at, at + 4, f"Sentence {at:.0f}."),), (Span(at, at + 10, "speech"),))
    for at in (0.0, 10.0, 20.0)
)


@pytest.mark.parametrize(
    ("accept", "wanted"),
    [
        ("", "txt"),
        ("*/*", "txt"),
        ("text/*", "txt"),
        ("text/vtt", "vtt"),
        ("TEXT/VTT ; charset=utf-8", "vtt"),
        ("application/json, text/plain;q=0.5", "json"),
        ("application/json;q=0.4, text/plain;q=0.5", "txt"),
        ("text/*;q=0.9, text/plain;q=0.1", "vtt"),
        ("text/plain;q=0, */*;q=0.1", "srt"),
        ("text/html, application/xhtml+xml, application/xml;q=0.9, */*;q=0.8", "txt"),
        ("image/png", None),
        ("text/plain;q=0", None),
        ('text/markdown; variant="a,b;q=0", image/png', "md"),
        ("text/plain;q=2, application/json;q=0.1", "json"),
        ("nonsense", None),
        (",,;;", None),
    ],
)
def test_the_offer_with_the_highest_quality_is_chosen(accept, wanted):
    assert choose(accept, OFFERS) == wanted


@given(st.text(max_size=80))
def test_any_accept_header_is_parsed(accept):
    assert choose(accept, OFFERS) in {None, *OFFERS}
    assert etag_matches(accept, '"tag"') in (True, False)


class TestTranscript(ServiceCase):
    async def running_job(self, *chunks: Chunk, **fields: Any) -> Job:
        await self.queue(**fields)
        job = await self.repository.get_next_queued()
        assert job is not None
        await self.repository.resume(job, "this work")
        job.duration = 30.0
        for finished in chunks:
            await self.repository.checkpoint(job, finished)
        return job

    async def completed(self, **fields: Any) -> Job:
        job = await self.running_job(*CHUNKS, **fields)
        job.status, job.result_text, job.detected_language = JobStatus.COMPLETED, "The text.", "en"
        job.outcome = {
            "duration": 30.0,
            "language_probability": 0.9,
            "model": {
                "name": f"{self.folder}/my-model",
                "revision": "unknown",
                "digest": "",
                "device": "cpu",
                "compute_type": "int8",
            },
            "timings": {"total": 1.0},
            "warnings": [f"{job.audio_path} is damaged"],
        }
        await self.repository.update(job)
        return job

    async def test_a_transcript_is_rendered_in_every_format_with_its_media_type(self):
        job = await self.completed(name="Mein Gespräch.mp3")
        types = {
            "txt": "text/plain; charset=utf-8",
            "srt": "application/x-subrip; charset=utf-8",
            "vtt": "text/vtt; charset=utf-8",
            "json": "application/json",
            "tsv": "text/tab-separated-values; charset=utf-8",
            "md": "text/markdown; charset=utf-8",
        }
        told = (await self.client.get(f"/jobs/{job.id}/transcript?format=json")).json()
        transcript = Transcript.from_dict(told)
        assert transcript.model == ModelIdentity("my-model", "unknown", "", "cpu", "int8")
        for name, media_type in types.items():
            answer = await self.client.get(f"/jobs/{job.id}/transcript", params={"format": name})
            assert answer.status_code == 200
            assert answer.headers["content-type"] == media_type
            assert answer.content.decode() == render(transcript, name)
            assert answer.headers["vary"] == "Accept"
            assert "x-cesar-partial" not in answer.headers
            assert answer.headers["content-disposition"] == (
                f"inline; filename=\"Mein Gesprach.{name}\"; filename*=UTF-8''Mein%20Gespr%C3%A4ch.{name}"
            )

    async def test_a_transcript_has_no_paths_of_this_machine(self):
        for job in (await self.completed(), await self.running_job(CHUNKS[0])):
            for name in FORMATS:
                answer = await self.client.get(f"/jobs/{job.id}/transcript", params={"format": name})
                assert str(self.folder) not in answer.text, name
                assert str(self.folder) not in str(answer.headers)

    async def test_a_running_job_has_a_partial_transcript(self):
        job = await self.running_job(*CHUNKS[:2])
        path = f"/jobs/{job.id}/transcript"
        answer = await self.client.get(path)
        assert (answer.status_code, answer.text) == (200, "Sentence 0.\n\nSentence 10.\n")
        assert answer.headers["x-cesar-partial"] == "true"
        assert "etag" not in answer.headers
        told = (await self.client.get(path, params={"format": "json"})).json()
        assert (told["is_partial"], told["model"]["name"], told["ledger"][-1]["end"]) == (True, "words.json", 20.0)

    async def test_a_queued_job_has_an_empty_partial_transcript(self):
        job = await self.queue()
        answer = await self.client.get(f"/jobs/{job.id}/transcript")
        assert (answer.status_code, answer.text, answer.headers["x-cesar-partial"]) == (200, "", "true")

    async def test_a_failed_job_has_a_partial_transcript(self):
        job = await self.running_job(CHUNKS[0])
        job.status, job.error_message = JobStatus.ERROR, "it broke"
        await self.repository.update(job)
        answer = await self.client.get(f"/jobs/{job.id}/transcript")
        assert (answer.text, answer.headers["x-cesar-partial"]) == ("Sentence 0.\n", "true")

    async def test_format_takes_precedence_over_accept(self):
        job = await self.completed()
        path = f"/jobs/{job.id}/transcript"
        for accept, params, wanted in (
            ("text/vtt", {}, "text/vtt"),
            ("application/json;q=0.1, text/markdown", {}, "text/markdown"),
            ("text/vtt", {"format": "srt"}, "application/x-subrip"),
            ("image/png", {"format": "json"}, "application/json"),
        ):
            answer = await self.client.get(path, params=params, headers={"Accept": accept})
            assert answer.headers["content-type"].partition(";")[0] == wanted

    async def test_unknown_and_unacceptable_formats_are_refused(self):
        job = await self.completed()
        path = f"/jobs/{job.id}/transcript"
        require_problem(await self.client.get(path, params={"format": "docx"}), 422, "unknown_format")
        require_problem(await self.client.get(path, params={"format": ""}), 422, "unknown_format")
        require_problem(await self.client.get(path, headers={"Accept": "image/png"}), 406, "not_acceptable")
        require_problem(await self.client.get("/jobs/none/transcript"), 404, "job_not_found")

    async def test_subtitle_options_are_applied(self):
        text = "One line that is too long for ten columns, and goes on."
        job = await self.running_job(Chunk(0.0, 6.0, (Segment(0.0, 6.0, text),), (Span(0.0, 6.0, "speech"),)))
        path = f"/jobs/{job.id}/transcript"
        for params in ({"max_line_length": "20"}, {"max_lines": "1"}, {"max_cue_duration": "2.5"}):
            options = SubtitleOptions(
                max_line_length=int(params.get("max_line_length", 42)),
                max_lines=int(params.get("max_lines", 2)),
                max_cue_duration_s=float(params.get("max_cue_duration", 7)),
            )
            answer = await self.client.get(path, params={"format": "vtt", **params})
            transcript = Transcript.from_dict((await self.client.get(path, params={"format": "json"})).json())
            assert answer.text == render(transcript, "vtt", options) != render(transcript, "vtt")

    @pytest.mark.slow
    async def test_other_subtitle_options_have_another_etag(self):
        job = await self.completed()
        path = f"/jobs/{job.id}/transcript?format=srt"
        tags = {(await self.client.get(path + more)).headers["etag"] for more in ("", "&max_lines=1", "&max_lines=2")}
        assert len(tags) == 2

    async def test_invalid_subtitle_options_are_refused(self):
        job = await self.completed()
        for name, value in (
            ("max_line_length", "9"),
            ("max_line_length", "251"),
            ("max_line_length", "1e3"),
            ("max_lines", "0"),
            ("max_lines", "11"),
            ("max_cue_duration", "nan"),
            ("max_cue_duration", "0"),
            ("max_cue_duration", "61"),
            ("max_cue_duration", ""),
        ):
            answer = await self.client.get(f"/jobs/{job.id}/transcript", params={"format": "srt", name: value})
            assert answer.status_code == 422, (name, value)
            assert name in answer.text

    async def test_an_unchanged_transcript_is_304(self):
        job = await self.completed()
        path = f"/jobs/{job.id}/transcript"
        tag = (await self.client.get(path)).headers["etag"]
        for told in (tag, f"W/{tag}", f'"other", {tag}', "*"):
            answer = await self.client.get(path, headers={"If-None-Match": told})
            assert (answer.status_code, answer.content, answer.headers["etag"]) == (304, b"", tag)
        other = await self.client.get(path, params={"format": "srt"}, headers={"If-None-Match": tag})
        assert other.status_code == 200, "another format is something else"

    async def test_head_returns_the_headers_of_get(self):
        job = await self.completed()
        got = await self.client.get(f"/jobs/{job.id}/transcript")
        head = await self.client.head(f"/jobs/{job.id}/transcript")
        assert (head.status_code, head.content, head.headers) == (200, b"", got.headers)

    async def test_a_name_cannot_inject_into_the_header(self):
        job = await self.completed(name='../a"b\r\nSet-Cookie: c/évil\u202e";x.mp3')
        answer = await self.client.get(f"/jobs/{job.id}/transcript")
        assert "set-cookie" not in answer.headers
        value = answer.headers["content-disposition"]
        assert value == "inline; filename=\"evil__x.txt\"; filename*=UTF-8''%C3%A9vil%22%3Bx.txt"

    @pytest.mark.slow
    async def test_a_transcript_of_many_chunks_is_complete(self):
        many = tuple(Chunk(n, n + 1, (Segment(n, n + 1, f"{n}."),), (Span(n, n + 1, "speech"),)) for n in range(205))
        job = await self.running_job(*many)
        answer = await self.client.get(f"/jobs/{job.id}/transcript")
        assert answer.text.split() == [f"{n}." for n in range(205)]

    async def test_a_job_with_only_its_text_stored_returns_that_text(self):
        job = await self.running_job()
        job.status, job.result_text = JobStatus.COMPLETED, "All that is known."
        await self.repository.update(job)
        path = f"/jobs/{job.id}/transcript"
        assert (await self.client.get(path)).text == "All that is known.\n"
        problem = require_problem(await self.client.get(path, params={"format": "srt"}), 422, "queue_failed")
        assert "--" not in problem["hint"], "options of the command line are of no use here"

    async def test_json_has_a_type_that_browsers_render(self):
        job = await self.completed()
        answer = await self.client.get(f"/jobs/{job.id}/transcript", headers={"Accept": "application/json"})
        assert json.loads(answer.text)["segments"][0]["text"] == "Sentence 0."
