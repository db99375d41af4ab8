"""Edge cases of `cesar models`; the store has its own tests."""

import pytest

from cesar.models.catalog import CATALOG


def test_the_list_has_every_model_in_the_catalog_and_marks_the_default(invoke):
    code, out, _ = invoke("models", "list")
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()[1:]] == list(CATALOG)
    assert "base (default)" in out


def test_the_list_does_not_write_to_disk(invoke, tmp_path, monkeypatch):
    monkeypatch.setenv("CESAR_DATA_DIR", str(tmp_path / "none"))
    invoke("models", "list")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "exit_code", "message"),
    [
        (["pull", "huge"], 4, "huge"),
        (["pull", "large-v3", "--offline"], 4, "large-v3"),
        (["verify", "huge"], 4, "huge"),
        (["verify", "large-v3"], 4, "large-v3"),
        (["export", "large-v3", "x.cesar-model"], 4, "large-v3"),
        (["import", "notes.txt"], 3, "notes.txt"),
        (["import", "missing"], 3, "missing"),
    ],
)
def test_an_impossible_operation_on_models_is_one_line_with_the_right_exit_code(
    arguments, exit_code, message, invoke, tmp_path
):
    (tmp_path / "notes.txt").write_text("no model", encoding="utf-8")
    code, out, err = invoke("models", *arguments)
    assert (code, out) == (exit_code, "")
    [line] = err.splitlines()
    assert message in line


def test_pull_does_not_use_the_network_if_the_settings_say_offline(invoke, monkeypatch):
    monkeypatch.setenv("CESAR_OFFLINE", "1")
    assert invoke("models", "pull", "large-v3")[0] == 4
