from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cesar.cli.flags.values import parse_time


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0.0),
        ("90", 90.0),
        ("90.5", 90.5),
        ("1:30", 90.0),
        ("90:00", 5400.0),
        ("01:02:03.250", 3723.25),
        (" 5 ", 5.0),
    ],
)
def test_times_are_parsed_as_seconds_or_clock_times(text, seconds):
    assert parse_time(text) == seconds


@pytest.mark.parametrize("text", ["", "-1", "1:60", "1:60:00", "1::2", "1:2:3:4", "abc", "1e3", "nan", "٣", "5."])
def test_an_invalid_time_is_refused(text):
    with pytest.raises(ValueError, match=r"time|below"):
        parse_time(text)


@given(milliseconds=st.integers(0, 1000 * 3600 * 1000))
def test_a_formatted_clock_time_is_parsed_back(milliseconds):
    seconds, thousandths = divmod(milliseconds, 1000)
    minutes, second = divmod(seconds, 60)
    hour, minute = divmod(minutes, 60)
    assert parse_time(f"{hour}:{minute:02}:{second:02}.{thousandths:03}") == pytest.approx(milliseconds / 1000)
    assert parse_time(f"{minutes}:{second:02}.{thousandths:03}") == pytest.approx(milliseconds / 1000)


@given(text=st.text(alphabet="0123456789:. -", max_size=12))
def test_any_text_is_a_non_negative_time_or_refused(text):
    with suppress(ValueError):
        assert parse_time(text) >= 0
