"""`cesar keys`: making, listing and revoking API keys."""

from __future__ import annotations

import json

import pytest

from cesar.api.queue.api_keys import KeyRing
from tests.cli.queues import said


@pytest.fixture
def find(queue):
    """Look for a key by what is shown, as the service does."""

    def look(token):
        return queue.do(lambda repository: KeyRing(repository.database).find(token))

    return look


def test_a_key_is_printed_alone_for_scripts(inside, find):
    code, out, err = inside("keys", "create", "alice")
    assert code == 0
    [token] = out.splitlines()
    assert find(token).name == "alice"
    assert find(token).scopes == {"submit"}
    assert token not in err
    assert "not shown again" in said(err)


def test_a_key_has_the_given_scopes(inside, find):
    _, out, _ = inside("keys", "create", "alice", "--scope", "read", "--scope", "admin", "--json")
    made = json.loads(out)
    assert made["scopes"] == ["read", "admin"]
    assert find(made["key"]).scopes == {"read", "admin"}


def test_a_revoked_key_is_refused(inside, find):
    token = inside("keys", "create", "alice")[1].strip()
    code, out, err = inside("keys", "revoke", "alice")
    assert (code, out, said(err)) == (0, "", "The key alice is revoked.")
    assert find(token) is None
    assert inside("keys", "revoke", "alice")[0] == 0


def test_keys_are_listed_without_their_secrets(inside):
    token = inside("keys", "create", "alice")[1].strip()
    inside("keys", "create", "bob", "--scope", "read")
    inside("keys", "revoke", "bob")
    code, out, _ = inside("keys", "list")
    assert code == 0
    header, alice, bob = out.splitlines()
    assert header.split() == ["NAME", "ID", "SCOPES", "MADE", "REVOKED"]
    assert alice.split()[0] == "alice"
    assert len(bob.split()) == len(alice.split()) + 2  # the day and the hour at which it was revoked
    listed = json.loads(inside("keys", "list", "--json")[1])
    assert [(key["name"], key["revoked_at"] is None) for key in listed] == [("alice", True), ("bob", False)]
    secret = token.split("_", 2)[2]
    assert secret not in out
    assert secret not in str(listed)


def test_an_empty_list_of_keys_says_how_to_create_one(inside, queue):
    code, out, err = inside("keys", "list")
    assert (code, out) == (0, "")
    assert "cesar keys create" in said(err)
    assert json.loads(inside("keys", "list", "--json")[1]) == []
    assert not queue.file.exists()


@pytest.mark.parametrize(
    ("arguments", "expected", "words"),
    [
        (("revoke", "nobody"), 7, "nobody"),
        (("revoke", "\udcff"), 2, "not text"),
        (("create", "alice"), 2, "already"),
        (("create", "../x"), 2, "name"),
        (("create", ""), 2, "name"),
        (("create", "bob", "--scope", "everything"), 2, "everything"),
        (("create",), 2, "NAME"),
    ],
)
def test_a_mistake_with_keys_is_a_one_line_error(inside, arguments, expected, words):
    inside("keys", "create", "alice")
    code, out, err = inside("keys", *arguments)
    assert (code, out) == (expected, "")
    assert words in said(err)


def test_each_database_has_its_own_keys(inside, tmp_path):
    inside("keys", "create", "alice", "--database", tmp_path / "other.db")
    assert json.loads(inside("keys", "list", "--json")[1]) == []
    [key] = json.loads(inside("keys", "list", "--json", "--database", tmp_path / "other.db")[1])
    assert key["name"] == "alice"
