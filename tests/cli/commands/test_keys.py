"""`cesar keys`: creating, listing and revoking API keys."""

from __future__ import annotations

import json

import pytest

from cesar.api.queue.api_keys import KeyRing
from tests.cli.queues import only_line


@pytest.fixture
def find(queue):
    """Look up a key by its token, as the service does."""

    def look(token):
        return queue.do(lambda repository: KeyRing(repository.database).find(token))

    return look


def test_a_key_is_printed_alone_for_scripts(invoke, find):
    code, out, err = invoke("keys", "create", "alice")
    assert code == 0
    [token] = out.splitlines()
    assert find(token).name == "alice"
    assert find(token).scopes == {"submit"}
    assert token not in err
    assert "not be shown again" in only_line(err)


def test_a_key_has_the_given_scopes(invoke, find):
    _, out, _ = invoke("keys", "create", "alice", "--scope", "read", "--scope", "admin", "--json")
    made = json.loads(out)
    assert made["scopes"] == ["read", "admin"]
    assert find(made["key"]).scopes == {"read", "admin"}


def test_a_revoked_key_is_refused(invoke, find):
    token = invoke("keys", "create", "alice")[1].strip()
    code, out, err = invoke("keys", "revoke", "alice")
    assert (code, out, only_line(err)) == (0, "", "Key alice is revoked.")
    assert find(token) is None
    assert invoke("keys", "revoke", "alice")[0] == 0


def test_keys_are_listed_without_their_secrets(invoke):
    token = invoke("keys", "create", "alice")[1].strip()
    invoke("keys", "create", "bob", "--scope", "read")
    invoke("keys", "revoke", "bob")
    code, out, _ = invoke("keys", "list")
    assert code == 0
    header, alice, bob = out.splitlines()
    assert header.split() == ["NAME", "ID", "SCOPES", "MADE", "REVOKED"]
    assert alice.split()[0] == "alice"
    assert len(bob.split()) == len(alice.split()) + 2  # the date and time of revocation
    listed = json.loads(invoke("keys", "list", "--json")[1])
    assert [(key["name"], key["revoked_at"] is None) for key in listed] == [("alice", True), ("bob", False)]
    secret = token.split("_", 2)[2]
    assert secret not in out
    assert secret not in str(listed)


def test_an_empty_list_of_keys_says_how_to_create_one(invoke, queue):
    code, out, err = invoke("keys", "list")
    assert (code, out) == (0, "")
    assert "cesar keys create" in only_line(err)
    assert json.loads(invoke("keys", "list", "--json")[1]) == []
    assert not queue.file.exists()


@pytest.mark.parametrize(
    ("arguments", "expected", "words"),
    [
        (("revoke", "nobody"), 7, "nobody"),
        (("revoke", "\udcff"), 2, "not valid UTF-8"),
        (("create", "alice"), 2, "already"),
        (("create", "../x"), 2, "name"),
        (("create", ""), 2, "name"),
        (("create", "bob", "--scope", "everything"), 2, "everything"),
        (("create",), 2, "NAME"),
    ],
)
def test_a_mistake_with_keys_is_a_one_line_error(invoke, arguments, expected, words):
    invoke("keys", "create", "alice")
    code, out, err = invoke("keys", *arguments)
    assert (code, out) == (expected, "")
    assert words in only_line(err)


def test_each_database_has_its_own_keys(invoke, tmp_path):
    invoke("keys", "create", "alice", "--database", tmp_path / "other.db")
    assert json.loads(invoke("keys", "list", "--json")[1]) == []
    [key] = json.loads(invoke("keys", "list", "--json", "--database", tmp_path / "other.db")[1])
    assert key["name"] == "alice"
