import dataclasses
from pathlib import Path

import pytest

from cesar.errors import UsageError
from cesar.settings.config import SETTINGS, Settings, load


@pytest.fixture
def config_file(tmp_path):
    def write(text):
        path = tmp_path / "config.toml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def test_flags_override_variables_which_override_the_file_which_overrides_defaults(config_file):
    """Each setting is given in one source fewer than the previous one."""
    path = config_file('model = "small"\ndevice = "cpu"\nworkers = 2\n')
    environ = {"CESAR_MODEL": "medium", "CESAR_DEVICE": "cuda"}

    settings = load({"model": "tiny"}, environ, path)

    assert (settings.model, settings.device, settings.workers) == ("tiny", "cuda", 2)
    assert settings.origins["model"] == "flag"
    assert settings.origins["device"] == "CESAR_DEVICE"
    assert settings.origins["workers"] == str(path)
    assert settings.origins["offline"] == "default"


def test_an_omitted_flag_overrides_nothing(config_file):
    settings = load({"model": None}, {"CESAR_MODEL": "medium"}, config_file(""))
    assert settings.model == "medium"


def test_an_empty_variable_counts_as_not_set(config_file):
    assert load(environ={"CESAR_MODEL": "", "CESAR_WORKERS": ""}, config_file=config_file("")).model == "base"


def test_text_from_the_environment_is_converted_to_the_settings_type(config_file):
    environ = {
        "CESAR_OFFLINE": "yes",
        "CESAR_WORKERS": "3",
        "CESAR_IDLE_TIMEOUT_S": "1.5",
        "CESAR_DATA_DIR": "~/kept",
        "CESAR_COMPUTE_TYPE": "INT8",
    }
    settings = load(environ=environ, config_file=config_file(""))
    assert settings.offline is True
    assert settings.workers == 3
    assert settings.idle_timeout_s == 1.5
    assert settings.models_dir == Path.home() / "kept" / "models"
    assert settings.compute_type == "int8"


def test_the_recordings_folder_is_an_absolute_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert Settings(data_dir=Path("data")).audio_dir == tmp_path / "data" / "audio"


def test_auto_overrides_a_number_of_workers(config_file):
    settings = load(environ={"CESAR_WORKERS": "auto"}, config_file=config_file("workers = 2\n"))
    assert settings.workers is None


@pytest.mark.parametrize(
    ("key", "value", "allowed"),
    [
        ("device", "gpu", "auto, cpu, cuda"),
        ("compute_type", "int4", "int8_float16"),
        ("workers", "0", "from 1 to 1024"),
        ("workers", "9" * 5000, "from 1 to 1024"),
        ("workers", "²", "from 1 to 1024"),
        ("offline", "maybe", "true or false"),
        ("idle_timeout_s", "-1", "above 0"),
        ("stall_timeout_s", "nan", "above 0"),
        ("idle_timeout_s", "1e308", "at most 4000000"),
        ("shutdown_grace_s", "1e15", "at most 4000000"),
        ("max_wait_s", "1e10", "at most 4000000"),
        ("max_duration_s", "1e308", "at most 4000000"),
        ("stall_timeout_s", "soon", "above 0"),
        ("model", "  ", "a name or a folder"),
        ("host", "  ", "an address such as 127.0.0.1"),
        ("server", "  ", "http://127.0.0.1:5000, or none"),
        ("api_key", "  ", "cesar keys create"),
        ("cors_origins", "https://a.example,b.example", "https://example.org"),
        ("cors_origins", "https://a.example/app", "without a path"),
        ("cors_origins", "*", "https://example.org"),
        ("data_dir", "~nobody-has-this-name/x", "the path of a folder"),
    ],
)
def test_an_invalid_value_is_rejected_with_its_name_its_origin_and_what_is_allowed(key, value, allowed, config_file):
    variable = f"CESAR_{key.upper()}"
    with pytest.raises(UsageError) as caught:
        load(environ={variable: value}, config_file=config_file(""))
    assert key in caught.value.message
    assert repr(value) in caught.value.message
    assert variable in caught.value.message
    assert allowed in caught.value.hint


def test_origins_are_accepted_in_the_form_that_browsers_send(config_file):
    path = config_file('cors_origins = ["https://A.example/", " http://[::1]:8080"]\n')
    assert load(environ={}, config_file=path).cors_origins == ("https://a.example", "http://[::1]:8080")


def test_a_wrong_type_in_the_file_names_the_file(config_file):
    path = config_file("workers = true\n")
    with pytest.raises(UsageError, match="workers = True") as caught:
        load(environ={}, config_file=path)
    assert str(path) in caught.value.message


def test_an_unknown_key_in_the_file_is_rejected_with_the_most_similar_one(config_file):
    path = config_file('modle = "base"\n')
    with pytest.raises(UsageError, match="modle") as caught:
        load(environ={}, config_file=path)
    assert str(path) in caught.value.message
    assert caught.value.hint == "Did you mean model?"


def test_an_unknown_key_similar_to_none_is_rejected_with_the_list(config_file):
    with pytest.raises(UsageError) as caught:
        load(environ={}, config_file=config_file("colour = 1\n"))
    assert "stall_timeout_s" in caught.value.hint


def test_a_misspelt_variable_is_rejected_and_an_unrelated_one_is_ignored(config_file):
    """Other parts have their own CESAR_ variables, so only a likely typo is an error."""
    load(environ={"CESAR_BUILD_NUMBER": "7"}, config_file=config_file(""))
    with pytest.raises(UsageError, match="CESAR_MODLE") as caught:
        load(environ={"CESAR_MODLE": "base"}, config_file=config_file(""))
    assert "CESAR_MODEL?" in caught.value.hint


def test_an_unknown_flag_is_rejected(config_file):
    with pytest.raises(UsageError, match=r"beams \(from flag\)"):
        load({"beams": 3}, {}, config_file(""))


def test_cesar_config_names_the_file(config_file):
    path = config_file('model = "small"\n')
    assert load(environ={"CESAR_CONFIG": str(path)}).origins["model"] == str(path)


def test_a_settings_file_that_is_named_must_exist(tmp_path):
    with pytest.raises(UsageError, match="there is no settings file"):
        load(environ={"CESAR_CONFIG": str(tmp_path / "none.toml")})


@pytest.mark.parametrize("content", [b"model = \n", b"\xff\xfe\x00"])
def test_a_file_that_is_not_toml_is_rejected_by_its_name(content, tmp_path):
    path = tmp_path / "config.toml"
    path.write_bytes(content)
    with pytest.raises(UsageError) as caught:
        load(environ={}, config_file=path)
    assert str(path) in caught.value.message


def test_the_users_own_settings_file_is_read_from_its_default_location(tmp_path, monkeypatch):
    monkeypatch.setattr("platformdirs.user_config_path", lambda *_, **__: tmp_path)
    assert load(environ={}).model == "base"
    (tmp_path / "config.toml").write_text('model = "small"\n', encoding="utf-8")
    assert load(environ={}).model == "small"


def test_settings_constructed_directly_are_checked_too():
    with pytest.raises(UsageError, match="device = 'gpu' can't be used"):
        Settings(device="gpu")


def test_settings_are_equal_whatever_their_origin(config_file):
    assert load(environ={}, config_file=config_file("")) == Settings()


def test_every_setting_is_documented_in_one_line():
    names = {item.name for item in dataclasses.fields(Settings)} - {"origins"}
    assert set(SETTINGS) == names
    assert all(doc.endswith(".") and "\n" not in doc for doc in (it.doc for it in SETTINGS.values()))
