"""API keys: who may use the service over the network, and for what. Only a digest of a key's secret is stored.

A token reads `cesar_ID_SECRET`. The secret has 256 random bits, so one round of SHA-256 is as good as many.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import math
import re
import secrets
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from enum import StrEnum

import sqlalchemy as sa
from pydantic import BaseModel, ConfigDict

from cesar.api.models import utc_now
from cesar.api.storage.database import Database
from cesar.api.storage.schema import api_keys
from cesar.errors import KeyNotFound, UsageError

CACHE_TTL_S = 1.0
"""How long keys are cached: a key revoked by another process may work until then."""
_TOKEN = re.compile(r"cesar_([0-9a-f]{12})_([A-Za-z0-9_-]{43})", re.ASCII)
_NAME = re.compile(r"[\w.@-]([\w .@-]{0,62}[\w.@-])?")


class Scope(StrEnum):
    """What a key allows. Each scope includes those before it."""

    READ = "read"
    """Read the service's state (models, health, metrics), and the jobs submitted with this key."""
    SUBMIT = "submit"
    """Submit recordings; read, cancel, retry and delete the jobs submitted with this key."""
    ADMIN = "admin"
    """All of that for everyone's jobs."""


_SCOPES = tuple(Scope)


class ApiKey(BaseModel):
    """A key without its secret."""

    model_config = ConfigDict(frozen=True)

    id: str
    name: str
    scopes: frozenset[Scope]
    """The scopes it was created with; `allowed` has those that they include."""
    created_at: datetime
    revoked_at: datetime | None = None

    @property
    def allowed(self) -> frozenset[Scope]:
        """All its scopes, including those implied."""
        highest = max(map(_SCOPES.index, self.scopes), default=-1)
        return frozenset(_SCOPES[: highest + 1])


class KeyRing:
    """The keys in a database, read at most once a second, however many tokens are checked."""

    def __init__(self, database: Database, clock: Callable[[], float] = time.monotonic) -> None:
        self._database = database
        self._clock = clock
        self._known: Mapping[str, tuple[str, ApiKey]] = {}
        """Digest and key by id, without revoked keys."""
        self._read_at = -math.inf
        self._reading = asyncio.Lock()

    async def create(self, name: str, scopes: Iterable[Scope]) -> tuple[ApiKey, str]:
        """Create a key; return it and its token, which is never shown again.

        Raises `UsageError` for a name that is taken or invalid, and if there is no scope.
        """
        if not _NAME.fullmatch(name):
            raise UsageError(f"{name!r} is not a valid name for a key", hint="Use up to 64 letters, digits and . @ _ -")
        key = ApiKey(id=secrets.token_hex(6), name=name, scopes=frozenset(scopes), created_at=utc_now())
        if not key.scopes:
            raise UsageError("a key without a scope is useless", hint="Give read, submit or admin.")
        secret = secrets.token_urlsafe(32)
        row = {**key.model_dump(), "scopes": sorted(key.scopes), "digest": _digest(secret)}

        def insert(connection: sa.Connection) -> None:
            if connection.execute(sa.select(api_keys.c.id).where(_matches(name))).first() is not None:
                raise UsageError(f"there is already a key {name!r}", hint="Choose another name: it stays taken.")
            connection.execute(sa.insert(api_keys), row)

        await self._database.write("create key", insert)
        self._read_at = -math.inf
        return key, f"cesar_{key.id}_{secret}"

    async def list(self) -> list[ApiKey]:
        """Return all keys, oldest first, including revoked ones."""
        return [key for _, key in await self._read()]

    async def revoke(self, name_or_id: str) -> ApiKey:
        """Revoke a key. Its name stays taken. Raises `KeyNotFound`."""

        def revoke(connection: sa.Connection) -> ApiKey:
            row = connection.execute(sa.select(api_keys).where(_matches(name_or_id))).mappings().first()
            if row is None:
                raise KeyNotFound(f"there is no key {name_or_id!r}")
            if row["revoked_at"] is None:
                change = sa.update(api_keys).where(api_keys.c.id == row["id"]).values(revoked_at=utc_now())
                row = connection.execute(change.returning(api_keys)).mappings().one()
            return _key_of(row)

        key = await self._database.write("revoke key", revoke)
        self._read_at = -math.inf
        return key

    async def find(self, token: str) -> ApiKey | None:
        """Return the key of a token; None if there is none, or it was revoked.

        The comparison takes constant time. Raises `DatabaseUnavailable` rather than rely on an old read.
        """
        parts = _TOKEN.fullmatch(token)
        if parts is None:
            return None
        digest, key = (await self._active_keys()).get(parts[1], ("", None))
        return key if hmac.compare_digest(digest, _digest(parts[2])) else None

    async def _active_keys(self) -> Mapping[str, tuple[str, ApiKey]]:
        async with self._reading:  # one read serves all concurrent callers
            requested_at = self._clock()
            if requested_at - self._read_at >= CACHE_TTL_S:
                self._read_at = requested_at
                try:
                    found = await self._read()
                except BaseException:
                    self._read_at = -math.inf
                    raise
                self._known = {key.id: (digest, key) for digest, key in found if key.revoked_at is None}
        return self._known

    async def _read(self) -> Sequence[tuple[str, ApiKey]]:
        statement = sa.select(api_keys).order_by(api_keys.c.created_at, api_keys.c.id)
        rows = await self._database.read(lambda connection: connection.execute(statement).mappings().all())
        return [(row["digest"], _key_of(row)) for row in rows]


def _matches(name_or_id: str) -> sa.ColumnElement[bool]:
    return sa.or_(api_keys.c.name == name_or_id, api_keys.c.id == name_or_id)


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def _key_of(row: sa.RowMapping) -> ApiKey:
    return ApiKey.model_validate({name: row[name] for name in ApiKey.model_fields})
