from __future__ import annotations

import re

import pytest

from cesar.models.catalog import CATALOG, WEIGHTS, ModelEntry, entry_with_weights

ENTRIES = pytest.mark.parametrize("entry", CATALOG.values(), ids=lambda entry: entry.name)


def test_the_catalog_has_every_size_and_english_ones_where_they_exist():
    assert list(CATALOG) == [
        "tiny",
        "tiny.en",
        "base",
        "base.en",
        "small",
        "small.en",
        "medium",
        "medium.en",
        "large-v3",
        "large-v3-turbo",
        "distil-large-v3",
    ]


@ENTRIES
def test_an_entry_is_found_by_its_own_name(entry: ModelEntry):
    assert CATALOG[entry.name] is entry


@ENTRIES
def test_every_revision_is_a_full_commit_and_every_file_has_a_full_digest_and_a_size(entry: ModelEntry):
    assert re.fullmatch("[0-9a-f]{40}", entry.revision or "")
    for file in entry.files.values():
        assert re.fullmatch("[0-9a-f]{64}", file.sha256 or "")
        assert file.size


@ENTRIES
def test_an_entry_lists_every_file_that_a_model_needs(entry: ModelEntry):
    assert {WEIGHTS, "config.json", "tokenizer.json"} < set(entry.files)
    assert len({"vocabulary.txt", "vocabulary.json"} & set(entry.files)) == 1


@ENTRIES
def test_only_the_large_v3_family_specifies_its_number_of_mel_bands(entry: ModelEntry):
    assert ("preprocessor_config.json" in entry.files) == ("large-v3" in entry.name)


def test_no_two_models_have_the_same_weights_or_revision():
    assert len({entry.files[WEIGHTS].sha256 for entry in CATALOG.values()}) == len(CATALOG)
    assert len({entry.revision for entry in CATALOG.values()}) == len(CATALOG)


@ENTRIES
def test_an_entry_is_found_by_the_digest_of_its_weights(entry: ModelEntry):
    assert entry_with_weights(entry.files[WEIGHTS].sha256 or "") is entry


def test_unknown_weights_match_no_entry():
    assert entry_with_weights("0" * 64) is None


def test_the_size_of_a_model_is_that_of_all_its_files():
    assert CATALOG["base"].size_bytes == 147_882_941


@ENTRIES
def test_english_names_are_english_models(entry: ModelEntry):
    """So is distil-large-v3, although its name doesn't say so."""
    assert (entry.languages == "en") == (entry.name.endswith(".en") or entry.name.startswith("distil"))


def test_models_distributed_as_packages_have_one_part_in_each_distribution():
    packaged = {entry.name: entry.package for entry in CATALOG.values() if entry.package}
    assert set(packaged) == {"tiny.en", "base"}
    for package in packaged.values():
        assert len(package.distributions) == len(package.weights)
