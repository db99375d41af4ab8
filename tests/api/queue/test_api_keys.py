"""API keys: what is stored of them, what they allow, and when they stop working."""

from __future__ import annotations

import pytest

from cesar.api.queue.api_keys import CACHE_TTL_S, KeyRing, Scope
from cesar.errors import KeyNotFound, UsageError
from tests.api.support import QueueCase


class KeyCase(QueueCase):
    in_memory = False

    async def asyncSetUp(self) -> None:
        await super().asyncSetUp()
        self.keys = KeyRing(self.repository.database, self.clocks.monotonic)


class TestKeys(KeyCase):
    async def test_a_token_finds_its_key(self):
        key, token = await self.keys.create("alice", [Scope.SUBMIT])
        assert await self.keys.find(token) == key
        assert (key.name, key.scopes) == ("alice", frozenset({Scope.SUBMIT}))

    async def test_nothing_stored_can_be_used_as_a_token(self):
        _, token = await self.keys.create("alice", [Scope.SUBMIT])
        secret = token.split("_", 2)[2]
        [row] = self.sql("SELECT * FROM api_keys")
        assert not any(secret in str(value) for value in row)
        for stored in map(str, row):
            assert await self.keys.find(stored) is None
            assert await self.keys.find(f"{token[:19]}{stored[:43]:_<43}") is None

    async def test_every_secret_is_different(self):
        tokens = {(await self.keys.create(f"key{n}", [Scope.READ]))[1][19:] for n in range(10)}
        assert len(tokens) == 10

    async def test_a_wrong_token_finds_no_key(self):
        key, token = await self.keys.create("alice", [Scope.SUBMIT])
        other, other_token = await self.keys.create("bob", [Scope.SUBMIT])
        last = "A" if token[-1] != "A" else "B"
        wrong = ["", "cesar", token[:-1], token[:-1] + last, f"{token}A", f" {token}", token.replace("cesar", "Cesar")]
        wrong += [token.replace(key.id, other.id), token.replace(key.id, "0" * 12), "cesar_\uff10" + token[7:]]
        for text in wrong:
            assert await self.keys.find(text) is None, text
        assert await self.keys.find(other_token) == other

    async def test_each_scope_includes_those_before_it(self):
        allowed = {}
        for scope in Scope:
            key, _ = await self.keys.create(scope.value, [scope])
            allowed[scope] = key.allowed
        assert allowed == {
            Scope.READ: {Scope.READ},
            Scope.SUBMIT: {Scope.READ, Scope.SUBMIT},
            Scope.ADMIN: {Scope.READ, Scope.SUBMIT, Scope.ADMIN},
        }

    async def test_keys_are_listed_oldest_first_including_revoked_ones(self):
        names = ["zoe", "alice", "bob"]
        for name in names:
            await self.keys.create(name, [Scope.READ])
        await self.keys.revoke("alice")
        found = await self.keys.list()
        assert [key.name for key in found] == names
        assert [key.revoked_at is not None for key in found] == [False, True, False]

    async def test_a_name_stays_taken_after_its_key_is_revoked(self):
        key, _ = await self.keys.create("alice", [Scope.READ])
        await self.keys.revoke("alice")
        for taken in ("alice", key.id):
            with pytest.raises(UsageError, match="already"):
                await self.keys.create(taken, [Scope.READ])

    async def test_an_invalid_name_is_refused(self):
        for name in ("", " ", " alice", "alice ", "a/b", "..\\x", "a\nb", "a\x00", "\ud800", "x" * 65):
            with pytest.raises(UsageError, match="name"):
                await self.keys.create(name, [Scope.READ])
        for name in ("Zoë", "a@b.example", "the living room", "x" * 64):
            assert (await self.keys.create(name, [Scope.READ]))[0].name == name

    async def test_a_key_without_a_scope_is_refused(self):
        with pytest.raises(UsageError, match="scope"):
            await self.keys.create("alice", [])


class TestRevoking(KeyCase):
    async def test_a_revoked_key_stops_working_at_once_in_the_same_process(self):
        for way in ("name", "id"):
            key, token = await self.keys.create(way, [Scope.READ])
            assert await self.keys.find(token) == key
            revoked = await self.keys.revoke(getattr(key, way))
            assert revoked.revoked_at is not None
            assert await self.keys.find(token) is None

    async def test_a_key_revoked_by_another_process_stops_working_soon(self):
        elsewhere = KeyRing((await self.open()).database)
        _, token = await self.keys.create("alice", [Scope.READ])
        assert await self.keys.find(token)
        await elsewhere.revoke("alice")
        self.clocks.advance(CACHE_TTL_S)
        assert await self.keys.find(token) is None

    async def test_a_key_created_by_another_process_works_soon(self):
        elsewhere = KeyRing((await self.open()).database)
        assert await self.keys.find(f"cesar_{'0' * 12}_{'A' * 43}") is None
        key, token = await elsewhere.create("alice", [Scope.READ])
        self.clocks.advance(CACHE_TTL_S)
        assert await self.keys.find(token) == key

    async def test_revoking_twice_keeps_the_first_time(self):
        await self.keys.create("alice", [Scope.READ])
        first = await self.keys.revoke("alice")
        assert await self.keys.revoke("alice") == first

    async def test_an_unknown_key_cannot_be_revoked(self):
        with pytest.raises(KeyNotFound, match="bob"):
            await self.keys.revoke("bob")

    async def test_many_lookups_read_the_database_once(self):
        _, token = await self.keys.create("alice", [Scope.READ])
        assert await self.keys.find(token)
        await self.repository.close()
        assert all([await self.keys.find(token) for _ in range(100)])
        assert await self.keys.find(f"cesar_{'0' * 12}_{'A' * 43}") is None
