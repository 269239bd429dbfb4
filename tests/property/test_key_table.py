"""The store's keys against a model of them: any order of changes, any steps of the clock forward."""

import asyncio
import hashlib
from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from sqlalchemy import insert
from sqlalchemy.ext.asyncio import create_async_engine

from router.ledger.key_table import VERSION, change_key, read_keys, version
from router.ledger.tables import METADATA
from router.model.keys import AddKey, KeyAnswer, KeyChange, RevokeKey, RotateKey, StoredKey

NAMES = st.sampled_from(["acme", "shop", "lab"])
SECRETS = st.integers(0, 7).map(lambda n: hashlib.sha256(bytes([n])).hexdigest())
SPANS_S = st.sampled_from([0.0, 0.5, 60.0, 86_400.0])


@dataclass
class Known:
    """A key as the model has it: by digest the end of a secret, or None."""

    secrets: dict[str, float | None] = field(default_factory=dict)
    revoked: bool = False


class KeyTable(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.engine = create_async_engine("sqlite+aiosqlite:///:memory:")
        self.runner.run(self._make())
        self.wall, self.version, self.changed = 1000.0, 0, False
        self.keys: dict[str, Known] = {}

    async def _make(self) -> None:
        async with self.engine.begin() as connection:
            await connection.run_sync(METADATA.create_all)
            await connection.execute(insert(VERSION).values(version=0))

    def teardown(self) -> None:
        self.runner.run(self.engine.dispose())
        self.runner.close()

    def change(self, change: KeyChange) -> KeyAnswer | None:
        """None: there is no such key."""

        async def change_it() -> KeyAnswer:
            async with self.engine.begin() as connection:
                return await change_key(connection, change, self.wall)

        try:
            answer = self.runner.run(change_it())
        except LookupError:
            return None
        assert (answer.key is None) == bool(answer.refusal)
        self.changed |= answer.key is not None
        return answer

    def read(self) -> tuple[int, list[StoredKey]]:
        async def read_all() -> tuple[int, list[StoredKey]]:
            async with self.engine.connect() as connection:
                return await version(connection), await read_keys(connection)

        return self.runner.run(read_all())

    def live(self, name: str) -> dict[str, float | None]:
        secrets = self.keys[name].secrets
        return {digest: end for digest, end in secrets.items() if end is None or end > self.wall}

    def taken(self, digest: str) -> bool:
        """Also by a secret that has ended, until its key is rotated again."""
        return any(digest in known.secrets for known in self.keys.values())

    @rule(name=NAMES, digest=SECRETS)
    def add(self, name: str, digest: str) -> None:
        possible = name not in self.keys and not self.taken(digest)
        answer = self.change(AddKey(name, '{"workload":"api"}', digest))
        assert answer is not None
        assert (answer.key is not None) == possible
        if possible:
            self.keys[name] = Known({digest: None})

    @rule(name=NAMES, digest=SECRETS, overlap_s=SPANS_S)
    def rotate(self, name: str, digest: str, overlap_s: float) -> None:
        known, answer = self.keys.get(name), self.change(RotateKey(name, digest, overlap_s))
        assert (answer is None) == (known is None)
        if known is None or answer is None:
            return
        possible = not known.revoked and not self.taken(digest) and (overlap_s == 0 or len(self.live(name)) < 2)
        assert (answer.key is not None) == possible
        if possible:
            end = self.wall + overlap_s
            kept = {each: end if old is None else min(old, end) for each, old in self.live(name).items()}
            known.secrets = {**{each: old for each, old in kept.items() if old > self.wall}, digest: None}

    @rule(name=NAMES)
    def revoke(self, name: str) -> None:
        known, answer = self.keys.get(name), self.change(RevokeKey(name))
        assert (answer is None) == (known is None)
        if known is not None and answer is not None:
            assert (answer.key is not None) != known.revoked
            known.revoked = True

    @rule(seconds=st.sampled_from([0.25, 1.0, 61.0, 90_000.0]))
    def wait(self, seconds: float) -> None:
        self.wall += seconds

    @invariant()
    def the_store_has_what_was_done(self) -> None:
        counted, stored = self.read()
        found = {key.name: {each.sha256: each.ends_at for each in key.secrets} for key in stored}
        assert found == {name: known.secrets for name, known in self.keys.items()}
        assert {key.name for key in stored if key.revoked_at is not None} == {
            name for name, known in self.keys.items() if known.revoked
        }
        assert all(len(secrets) <= 2 for secrets in found.values())
        assert counted > self.version or not self.changed
        self.version, self.changed = counted, False


TestKeyTable = KeyTable.TestCase
TestKeyTable.settings = settings(max_examples=25, stateful_step_count=20)
