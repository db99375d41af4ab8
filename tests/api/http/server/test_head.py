"""Heads that servers and proxies read in different ways, and that are refused."""

from __future__ import annotations

import pytest

from cesar.api.http.server.head import find_fault

HOST = (b"host", b"localhost:5000")


@pytest.mark.parametrize(
    ("version", "headers", "target"),
    [
        ("1.1", [HOST], b"/jobs"),
        ("1.1", [(b"host", b"")], b"/jobs"),
        ("1.1", [(b"host", b"[::1]:5000")], b"/jobs"),
        ("1.1", [(b"host", b"my_service.example")], b"/jobs"),
        ("1.0", [], b"/jobs"),
        ("1.0", [HOST], b"/jobs"),
        ("1.1", [HOST, (b"transfer-encoding", b"Chunked")], b"/transcribe"),
        ("1.1", [HOST], b"*"),
        ("1.1", [HOST], b"http://localhost:5000/jobs"),
        ("1.1", [(b"host", b"LOCALHOST:80")], b"http://localhost/jobs"),
        ("1.1", [(b"host", b"[::1]:5000")], b"http://[::1]:5000/jobs"),
    ],
)
def test_usual_heads_have_no_fault(version: str, headers: list[tuple[bytes, bytes]], target: bytes) -> None:
    assert find_fault(version, headers, target) is None


@pytest.mark.parametrize(
    ("version", "headers", "target", "fault"),
    [
        ("1.1", [], b"/jobs", "it has no Host header"),
        ("1.1", [HOST, HOST], b"/jobs", "it has several Host headers"),
        ("1.0", [HOST, (b"host", b"example.org")], b"/jobs", "it has several Host headers"),
        ("1.1", [(b"host", b"local host")], b"/jobs", "its Host header is not a host"),
        ("1.1", [(b"host", b"localhost/jobs")], b"/jobs", "its Host header is not a host"),
        ("1.1", [(b"host", b"user@localhost")], b"/jobs", "its Host header is not a host"),
        ("1.1", [(b"host", b"localhost, example.org")], b"/jobs", "its Host header is not a host"),
        ("1.1", [(b"host", b"localhost:http")], b"/jobs", "its Host header is not a host"),
        ("1.1", [HOST], b"http://example.org/jobs", "its Host header is not the host of its target"),
        ("1.1", [HOST], b"http://localhost/jobs", "its Host header is not the host of its target"),
        ("0.9", [HOST], b"/jobs", "HTTP/0.9 is not supported"),
        ("2.0", [HOST], b"/jobs", "HTTP/2.0 is not supported"),
        ("1.0", [(b"transfer-encoding", b"chunked")], b"/transcribe", "HTTP/1.0 has no transfer codings"),
        *[
            ("1.1", [HOST, *((b"transfer-encoding", coding) for coding in codings)], b"/transcribe", None)
            for codings in (
                (b"gzip, chunked",),
                (b"gzip",),
                (b"chunked, chunked",),
                (b"gzip", b"chunked"),
                (b"chunked", b"chunked"),
                (b"identity",),
                (b"chunked;q=1",),
                (b"",),
            )
        ],
    ],
)
def test_ambiguous_heads_are_refused(
    version: str, headers: list[tuple[bytes, bytes]], target: bytes, fault: str | None
) -> None:
    assert find_fault(version, headers, target) == (fault or "the only transfer coding supported is chunked")
