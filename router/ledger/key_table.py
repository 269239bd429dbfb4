"""Clients' keys in the store: what is kept of them, and the only ways in which it changes.

Every change counts the version up first. That takes the lock that all changes need, so each of them sees what the one
before it did; and whoever wants to know whether anything changed reads one number.
"""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import BigInteger, Column, ForeignKey, Index, Row, Table, Text, delete, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from router.ledger.tables import METADATA, TEXT
from router.model.keys import AddKey, KeyAnswer, KeyChange, RevokeKey, RotateKey, StoredKey, StoredSecret

_US: Final = 1_000_000

API_KEYS: Final = Table(
    "api_keys",
    METADATA,
    Column("name", TEXT, primary_key=True, nullable=False),
    Column("terms", Text, nullable=False),  # JSON
    Column("created_us", BigInteger, nullable=False),  # wall microseconds, as are all here
    Column("changed_us", BigInteger, nullable=False),
    Column("revoked_us", BigInteger),
)
API_SECRETS: Final = Table(
    "api_secrets",
    METADATA,
    Column("sha256", TEXT, primary_key=True, nullable=False),  # in hexadecimal digits
    Column("name", TEXT, ForeignKey("api_keys.name"), nullable=False),
    Column("created_us", BigInteger, nullable=False),
    Column("ends_us", BigInteger),  # NULL: with its key
)
Index("api_secrets_name", API_SECRETS.c.name)
VERSION: Final = Table("api_keys_version", METADATA, Column("version", BigInteger, nullable=False))


async def version(connection: AsyncConnection) -> int:
    """Grows with every change."""
    return int((await connection.execute(select(VERSION.c.version))).scalar_one())


async def read_keys(connection: AsyncConnection) -> list[StoredKey]:
    """All keys that there ever were, by name: with the secrets that had not ended when it last changed, two at most."""
    rows = await connection.execute(select(API_SECRETS).order_by(API_SECRETS.c.created_us, API_SECRETS.c.sha256))
    secrets: defaultdict[str, list[StoredSecret]] = defaultdict(list)
    for row in rows:
        secrets[row.name].append(StoredSecret(row.sha256, _seconds(row.ends_us)))
    keys = await connection.execute(select(API_KEYS).order_by(API_KEYS.c.name))
    return [_stored(row, secrets[row.name]) for row in keys]


async def change_key(connection: AsyncConnection, change: KeyChange, wall: float) -> KeyAnswer:
    """Does it, in the caller's transaction, or says why not; where it does not, the caller may commit all the same.

    Raises LookupError where there is no key of this name to be changed.
    """
    await connection.execute(update(VERSION).values(version=VERSION.c.version + 1))
    now_us = round(wall * _US)
    known = await _find(connection, change.name)
    if isinstance(change, AddKey):
        refusal = await _add(connection, change, known, now_us)
    elif known is None:
        raise LookupError(f"the store has no key named {change.name!r}")
    elif known.revoked_at is not None:
        refusal = f"the key {change.name!r} is revoked"
    elif isinstance(change, RotateKey):
        refusal = await _rotate(connection, change, known, now_us)
    else:
        refusal = await _revoke(connection, change, now_us)
    return KeyAnswer(None, refusal) if refusal else KeyAnswer(await _find(connection, change.name))


async def _find(connection: AsyncConnection, name: str) -> StoredKey | None:
    row = (await connection.execute(select(API_KEYS).where(API_KEYS.c.name == name))).one_or_none()
    if row is None:
        return None
    mine = select(API_SECRETS).where(API_SECRETS.c.name == name)
    secrets = await connection.execute(mine.order_by(API_SECRETS.c.created_us, API_SECRETS.c.sha256))
    return _stored(row, [StoredSecret(each.sha256, _seconds(each.ends_us)) for each in secrets])


def _stored(row: Row[Any], secrets: Sequence[StoredSecret]) -> StoredKey:
    return StoredKey(
        name=row.name,
        terms=row.terms,
        secrets=tuple(secrets),
        created_at=row.created_us / _US,
        changed_at=row.changed_us / _US,
        revoked_at=_seconds(row.revoked_us),
    )


async def _add(connection: AsyncConnection, change: AddKey, known: StoredKey | None, now_us: int) -> str:
    if known is not None:
        revoked = ", revoked" if known.revoked_at is not None else ""
        return f"the store has a key named {change.name!r} already{revoked}: a name is given once"
    if refusal := await _taken(connection, change.sha256):
        return refusal
    row = {"name": change.name, "terms": change.terms, "created_us": now_us, "changed_us": now_us}
    await connection.execute(insert(API_KEYS).values(row))
    await connection.execute(insert(API_SECRETS).values(sha256=change.sha256, name=change.name, created_us=now_us))
    return ""


async def _rotate(connection: AsyncConnection, change: RotateKey, known: StoredKey, now_us: int) -> str:
    wall = now_us / _US
    live = [secret for secret in known.secrets if secret.ends_at is None or secret.ends_at > wall]
    if change.overlap_s > 0 and len(live) > 1:
        return f"two secrets of {change.name!r} are live: wait for the end of the older one, or rotate without overlap"
    if refusal := await _taken(connection, change.sha256):
        return refusal
    mine = API_SECRETS.c.name == change.name
    end_us = now_us + round(change.overlap_s * _US)
    ends_later = or_(API_SECRETS.c.ends_us.is_(None), API_SECRETS.c.ends_us > end_us)
    await connection.execute(update(API_SECRETS).where(mine, ends_later).values(ends_us=end_us))
    await connection.execute(delete(API_SECRETS).where(mine, API_SECRETS.c.ends_us <= now_us))
    await connection.execute(insert(API_SECRETS).values(sha256=change.sha256, name=change.name, created_us=now_us))
    await connection.execute(update(API_KEYS).where(API_KEYS.c.name == change.name).values(changed_us=now_us))
    return ""


async def _revoke(connection: AsyncConnection, change: RevokeKey, now_us: int) -> str:
    mine = API_KEYS.c.name == change.name
    await connection.execute(update(API_KEYS).where(mine).values(changed_us=now_us, revoked_us=now_us))
    return ""


async def _taken(connection: AsyncConnection, sha256: str) -> str:
    found = select(API_SECRETS.c.name).where(API_SECRETS.c.sha256 == sha256)
    name = (await connection.execute(found)).scalar_one_or_none()
    return f"this secret is that of the key {name!r}: a secret has one key" if name is not None else ""


def _seconds(us: int | None) -> float | None:
    return us / _US if us is not None else None
