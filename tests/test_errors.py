import pickle
import re

import pytest

from cesar import errors
from cesar.errors import BY_CODE, CesarError


def every_class(cls: type[CesarError] = CesarError) -> list[type[CesarError]]:
    return [cls, *(found for child in cls.__subclasses__() for found in every_class(child))]


ALL = [cls for cls in every_class() if cls.__module__ == errors.__name__]


def test_no_two_errors_share_a_code():
    codes = [cls.code for cls in ALL]
    assert len(set(codes)) == len(codes)
    assert {code: BY_CODE[code] for code in codes} == {cls.code: cls for cls in ALL}


@pytest.mark.parametrize("cls", ALL, ids=lambda cls: cls.__name__)
def test_every_error_has_a_stable_code_a_hint_and_a_sentence_about_itself(cls):
    assert re.fullmatch("[a-z]+(_[a-z]+)*", cls.code)
    assert "code" in vars(cls)
    assert cls.default_hint.endswith(".")
    assert cls.__doc__
    assert cls.__doc__.strip().endswith(".")


@pytest.mark.parametrize("cls", ALL, ids=lambda cls: cls.__name__)
def test_an_error_survives_pickling(cls):
    error = pickle.loads(pickle.dumps(cls("it broke", hint="fix it")))
    assert type(error) is cls
    assert (error.message, error.hint, str(error)) == ("it broke", "fix it", "it broke")


@pytest.mark.parametrize("cls", ALL, ids=lambda cls: cls.__name__)
def test_an_error_without_a_hint_has_the_default_hint_of_its_class(cls):
    assert cls("it broke").hint == cls.default_hint


def test_an_empty_hint_stays_empty():
    assert CesarError("it broke", hint="").hint == ""


def test_the_tree_in_the_module_docstring_matches_the_classes():
    """Compare the tree at the top of the module with the base of every class."""
    assert errors.__doc__
    drawn: dict[str, str | None] = {"CesarError": None}
    above = {0: "CesarError"}
    for line in errors.__doc__.splitlines():
        if found := re.match(r"^    ((?:[│ ]   )*)[├└]── (\w+)", line):
            depth = len(found[1]) // 4 + 1
            above[depth] = found[2]
            drawn[found[2]] = above[depth - 1]
    real = {cls.__name__: None if cls is CesarError else cls.__base__.__name__ for cls in ALL}  # type: ignore[union-attr]
    assert drawn == real
