"""When a recording was made, by the tags that devices and programs write."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from cesar.pipeline.media.tags import recorded_at

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ([{"creation_time": "2024-05-01T12:00:00.000000Z"}], "2024-05-01T12:00:00Z"),
        ([{"com.apple.quicktime.creationdate": "2024-05-01T14:00:00+0200"}], "2024-05-01T12:00:00Z"),
        ([{"CREATION_TIME": "2024-05-01 12:00:00"}], "2024-05-01T12:00:00"),
        ([{"date": "2016-10-17", "creation_time": "11:12:13"}], "2016-10-17T11:12:13"),
        ([{"date": "2016-10-17"}], "2016-10-17"),
        ([{"date": "2006"}], None),
        ([{"date": "2016-10"}], None),
        ([{}, {"creation_time": "2024-05-01T12:00:00Z"}], "2024-05-01T12:00:00Z"),
        ([{"creation_time": "1970-01-01T00:00:00.000000Z"}], None),
        ([{"creation_time": "1904-01-01T00:00:00.000000Z"}], None),
        ([{"creation_time": "2036-02-07T06:28:15.000000Z"}], None),
        ([{"creation_time": "2024-13-45T99:00:00Z"}], None),
        ([{"creation_time": "2024-05-01T99:00:00Z"}], "2024-05-01"),
        ([{"creation_time": "yesterday", "date": "2016-10-17"}], "2016-10-17"),
        ([], None),
    ],
)
def test_the_tags_tell_when_a_recording_was_made(tags: list[dict[str, str]], expected: str | None) -> None:
    assert recorded_at(tags, now=NOW) == expected
