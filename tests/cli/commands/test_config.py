"""`cesar config`: the settings file, the settings, and their origins."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from cesar.settings.config import SETTINGS
from tests.cli.queues import only_line


@pytest.fixture
def file(environ):
    path = Path(os.environ["XDG_CONFIG_HOME"]) / "cesar" / "config.toml"
    path.parent.mkdir(parents=True)
    return path


def test_the_settings_path_is_printed_whether_or_not_the_file_exists(invoke, file, monkeypatch, tmp_path):
    assert invoke("config", "path") == (0, f"{file}\n", "")
    monkeypatch.setenv("CESAR_CONFIG", str(tmp_path / "mine.toml"))
    assert invoke("config", "path") == (0, f"{tmp_path / 'mine.toml'}\n", "")


def test_every_setting_is_shown_with_its_value_and_origin(invoke, file, monkeypatch):
    file.write_text('model = "small"\noffline = true\n')
    monkeypatch.setenv("CESAR_PORT", "8080")
    code, out, err = invoke("config", "show")
    assert (code, err) == (0, "")
    heading, *lines = (line.split() for line in out.splitlines())
    assert heading == ["SETTING", "VALUE", "FROM"]
    assert [line[0] for line in lines] == list(SETTINGS)
    shown = {name: rest for name, *rest in lines}
    assert shown["model"] == ["small", str(file)]
    assert shown["offline"] == ["true", str(file)]
    assert shown["port"] == ["8080", "CESAR_PORT"]
    assert shown["database"] == ["-", "default"]
    assert shown["idle_timeout_s"] == ["300", "default"]


def test_settings_are_printed_as_json(invoke, monkeypatch):
    monkeypatch.setenv("CESAR_CORS_ORIGINS", "https://a.example,https://b.example")
    shown = json.loads(invoke("config", "show", "--json")[1])
    assert list(shown) == list(SETTINGS)
    assert shown["cors_origins"] == {
        "value": ["https://a.example", "https://b.example"],
        "origin": "CESAR_CORS_ORIGINS",
    }
    assert shown["workers"] == {"value": None, "origin": "default"}
    assert shown["idle_timeout_s"] == {"value": 300.0, "origin": "default"}


@pytest.mark.slow
@pytest.mark.parametrize("command", [("config", "show"), ("config", "show", "--json"), ("doctor",)])
def test_the_api_key_is_never_shown(command, invoke, file):
    file.write_text('api_key = "cesar_0123456789ab_secret"\n')
    _, out, err = invoke(*command)
    assert "********" in out
    assert "secret" not in out + err


@pytest.mark.parametrize(
    ("content", "words"),
    [('modle = "small"', "model"), ("port = 100000", "65535"), ("= no", "not TOML")],
)
def test_an_unusable_settings_file_is_named_in_one_line(content, words, invoke, file):
    file.write_text(content)
    code, out, err = invoke("config", "show")
    assert (code, out) == (2, "")
    assert str(file) in only_line(err)
    assert words in only_line(err)


def test_the_settings_path_is_printed_even_if_the_file_is_unusable(invoke, file):
    file.write_text("= no")
    assert invoke("config", "path") == (0, f"{file}\n", "")
