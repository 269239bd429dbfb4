"""Clients' keys through the control plane, over real sockets and a real store."""

import hashlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import aiohttp
import pytest

from router.admin.control import ControlledRouter
from router.admin.keys import KeyOffice, KeyStore
from router.admin.server import AdminServer
from router.base.clock import ManualClock
from router.config.moments import parse_moment
from router.config.snapshot import Snapshot
from router.ledger.key_desk import key_desk
from router.model.fleet import Secret
from router.model.keys import KeyAnswer, KeyChange, StoredKey
from router.transport.channel import FailedError
from tests.unit.config.workbench import GOOD, Workbench

NOW = parse_moment("2030-01-01T12:00:00Z") or 0.0
SHOP = {"workload": "api", "models": ["gpt-4o"], "limits": {"rpm": 60}, "expires": "2030-02-01"}


class Away:
    """A store that nobody reaches."""

    async def stored_keys(self) -> list[StoredKey]:
        return []

    async def change_key(self, _: KeyChange) -> KeyAnswer:
        raise FailedError("the store of keys cannot be reached (refused)")


class Plane:
    """A control plane, and a client of it."""

    def __init__(self, snapshot: Snapshot, store: KeyStore | None, session: aiohttp.ClientSession) -> None:
        self.clock = ManualClock(wall_s=NOW)
        self.keys = KeyOffice(lambda: snapshot, store, self.clock)
        router = cast(ControlledRouter, SimpleNamespace(keys=self.keys))
        self.server, self._session = AdminServer(router, Secret("t")), session
        self.url = ""

    async def ask(self, method: str, path: str, body: object = None, token: str = "t") -> tuple[int, dict[str, Any]]:
        data = body if isinstance(body, bytes) else json.dumps(body).encode() if body is not None else None
        headers = {"authorization": f"Bearer {token}", "content-type": "application/json"}
        async with self._session.request(method, f"{self.url}{path}", data=data, headers=headers) as answer:
            assert answer.headers["cache-control"] == "no-store"
            return answer.status, json.loads(await answer.read())

    async def state_of(self, name: str) -> str:
        _, shown = await self.ask("GET", "/keys")
        return next(str(key["state"]) for key in shown["keys"] if key["name"] == name)


async def planes(bench: Workbench, store: KeyStore | None) -> AsyncIterator[Plane]:
    async with aiohttp.ClientSession() as session:
        plane = Plane(bench.load(wall=NOW), store, session)
        plane.url = f"http://127.0.0.1:{await plane.server.start('127.0.0.1', 0)}"
        yield plane
        await plane.server.close()


@pytest.fixture
async def plane(tmp_path: Path) -> AsyncIterator[Plane]:
    clock = ManualClock(wall_s=NOW)
    async with key_desk(f"sqlite:///{tmp_path}/keys.db", clock) as desk:
        async for plane in planes(Workbench(tmp_path), desk):
            plane.clock.advance = clock.advance  # type: ignore[method-assign]  # one time for both
            plane.clock.wall = clock.wall  # type: ignore[method-assign]
            yield plane


async def test_a_key_is_added_and_its_secret_is_shown_once(plane: Plane) -> None:
    status, added = await plane.ask("POST", "/keys", {"name": "shop", **SHOP})
    _, shown = await plane.ask("GET", "/keys")
    of_store = next(key for key in shown["keys"] if key["source"] == "store")

    assert status == 201
    digest = hashlib.sha256(added["key"].encode()).hexdigest()
    assert of_store == {
        "name": "shop",
        "source": "store",
        "state": "active",
        "terms": SHOP,
        "secrets": [{"sha256": digest[:12], "ends": None}],
        "created": "2030-01-01T12:00:00Z",
        "changed": "2030-01-01T12:00:00Z",
    }
    assert added["key"] not in json.dumps(shown)


async def test_a_key_of_the_file_is_shown_with_all_of_its_terms(tmp_path: Path) -> None:
    """What only counts must not look like what refuses, nor a key of high priority like any other."""
    terms = {
        "limits": {"rpm": 60, "concurrent": 5, "burst_share": 0.5, "shadow": ["rpm"]},
        "budget": {"day_usd": 0.5, "month_usd": 10.0, "shadow": ["day_usd", "month_usd"]},
        "weight": 2.0,
        "priority": "high",
    }
    start = "  - name: acme\n"
    sections = "".join(f"    {name}: {json.dumps(part)}\n" for name, part in terms.items())
    snapshot = Workbench(tmp_path).load(GOOD.replace(start, start + sections), wall=NOW)
    shown = await KeyOffice(lambda: snapshot, None, ManualClock(wall_s=NOW)).shown()

    assert shown[0]["terms"] == {"workload": "api", "models": ["gpt-4o"], **terms}


async def test_the_keys_of_the_file_are_shown_and_not_changed(plane: Plane) -> None:
    _, shown = await plane.ask("GET", "/keys")

    assert [(key["name"], key["source"], key["state"]) for key in shown["keys"]] == [
        ("acme", "file", "active"),
        ("evaluation", "file", "active"),
    ]
    assert shown["keys"][0]["terms"] == {"workload": "api", "models": ["gpt-4o"]}
    for change in ("rotate", "revoke"):
        status, refused = await plane.ask("POST", f"/keys/acme/{change}")
        assert (status, refused["error"]["code"]) == (409, "key_refused")
        assert "stands in the configuration" in refused["error"]["message"]


async def test_a_rotation_leaves_both_secrets_live_and_the_old_one_ends_by_itself(plane: Plane) -> None:
    _, added = await plane.ask("POST", "/keys", {"name": "shop", **SHOP})
    status, rotated = await plane.ask("POST", "/keys/shop/rotate", {"overlap_s": 3600})

    assert status == 200
    assert [secret["ends"] for secret in rotated["secrets"]] == ["2030-01-01T13:00:00Z", None]
    assert rotated["key"] != added["key"]
    status, refused = await plane.ask("POST", "/keys/shop/rotate", {"overlap_s": 60})
    assert (status, refused["error"]["code"]) == (409, "key_refused")

    plane.clock.advance(3600)
    _, shown = await plane.ask("GET", "/keys")
    digest = hashlib.sha256(rotated["key"].encode()).hexdigest()
    assert shown["keys"][2]["secrets"] == [{"sha256": digest[:12], "ends": None}]


async def test_a_rotation_without_overlap_ends_all_other_secrets_at_once(plane: Plane) -> None:
    await plane.ask("POST", "/keys", {"name": "shop", **SHOP})
    await plane.ask("POST", "/keys/shop/rotate")
    _, rotated = await plane.ask("POST", "/keys/shop/rotate", {"overlap_s": 0})

    assert [secret["ends"] for secret in rotated["secrets"]] == [None]


async def test_a_revoked_key_stays_revoked_and_its_name_its_own(plane: Plane) -> None:
    await plane.ask("POST", "/keys", {"name": "shop", **SHOP})
    status, _ = await plane.ask("POST", "/keys/shop/revoke")

    assert (status, await plane.state_of("shop")) == (200, "revoked")
    for path, body in (("/keys/shop/revoke", None), ("/keys/shop/rotate", None), ("/keys", {"name": "shop", **SHOP})):
        status, refused = await plane.ask("POST", path, body)
        assert (status, refused["error"]["code"]) == (409, "key_refused")
        assert "revoked" in refused["error"]["message"]


async def test_a_key_that_has_expired_says_so(plane: Plane) -> None:
    await plane.ask("POST", "/keys", {"name": "shop", **SHOP})
    plane.clock.advance(31 * 86_400)

    assert await plane.state_of("shop") == "expired"


async def test_a_client_may_keep_a_secret_that_it_has(plane: Plane) -> None:
    digest = hashlib.sha256(b"its own").hexdigest()
    status, added = await plane.ask("POST", "/keys", {"name": "shop", "sha256": digest.upper(), **SHOP})

    assert (status, "key" in added, added["secrets"]) == (201, False, [{"sha256": digest[:12], "ends": None}])
    status, refused = await plane.ask("POST", "/keys", {"name": "other", "sha256": digest, **SHOP})
    assert (status, refused["error"]["code"]) == (409, "key_refused")
    status, refused = await plane.ask("POST", "/keys", {"name": "other", "sha256": "its own", **SHOP})
    assert (status, "its own" in refused["error"]["message"]) == (409, False)


@pytest.mark.parametrize(
    ("path", "body", "status", "code"),
    [
        ("/keys", {**SHOP}, 400, "bad_request"),
        ("/keys", {"name": 5, **SHOP}, 400, "bad_request"),
        ("/keys", ["shop"], 400, "bad_request"),
        ("/keys", b"{", 400, "bad_request"),
        ("/keys", {"name": "shop", **SHOP, "workload": "gone"}, 409, "key_refused"),
        ("/keys", {"name": "acme", **SHOP}, 409, "key_refused"),
        ("/keys/nobody/revoke", None, 404, "key_not_found"),
        ("/keys/nobody/rotate", {}, 404, "key_not_found"),
        ("/keys/nobody/rotate", {"overlap_s": -1}, 409, "key_refused"),
        ("/keys/nobody/rotate", {"overlap_s": True}, 400, "bad_request"),
        ("/keys/nobody/rotate", {"overlap": 5}, 400, "bad_request"),
        ("/keys/nobody/rotate", b'{"overlap_s": 1e999}', 400, "bad_request"),
    ],
)
async def test_what_cannot_be_done_is_refused(plane: Plane, path: str, body: object, status: int, code: str) -> None:
    answered, refused = await plane.ask("POST", path, body)

    assert (answered, refused["error"]["code"]) == (status, code)
    assert len((await plane.ask("GET", "/keys"))[1]["keys"]) == 2


async def test_every_fault_of_a_keys_terms_is_named(plane: Plane) -> None:
    terms = {"name": "shop", "workload": "api", "models": ["gpt-9"], "limits": {"rpm": 0, "tmp": 1}}
    _, refused = await plane.ask("POST", "/keys", terms)

    assert {fault["path"] for fault in refused["error"]["faults"]} == {"limits.rpm", "limits.tmp"}


async def test_the_token_guards_keys_as_it_guards_all_else(plane: Plane) -> None:
    for method, path in (("GET", "/keys"), ("POST", "/keys"), ("POST", "/keys/x/revoke"), ("POST", "/keys/x/rotate")):
        assert (await plane.ask(method, path, {"name": "shop", **SHOP}, token="other"))[0] == 401
    assert len((await plane.ask("GET", "/keys"))[1]["keys"]) == 2


async def test_a_store_that_is_away_is_not_the_askers_fault(tmp_path: Path) -> None:
    async for plane in planes(Workbench(tmp_path), Away()):
        status, error = await plane.ask("POST", "/keys", {"name": "shop", **SHOP})
        assert (status, error["error"]["code"]) == (503, "key_store_unavailable")
        assert (await plane.ask("GET", "/keys"))[0] == 200


async def test_without_a_ledger_there_is_no_store(tmp_path: Path) -> None:
    async for plane in planes(Workbench(tmp_path), None):
        status, error = await plane.ask("POST", "/keys", {"name": "shop", **SHOP})
        assert (status, error["error"]["code"]) == (409, "key_refused")
        assert "`ledger`" in error["error"]["message"]
        assert len((await plane.ask("GET", "/keys"))[1]["keys"]) == 2
