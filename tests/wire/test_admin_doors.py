"""The doors of the control plane, over real sockets: foreign pages, forms, wrong tokens, listed origins."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import aiohttp
import pytest
from aiohttp import web

from router.admin.app import build_app
from router.admin.console import FILES
from router.admin.guard import OPEN_PATHS, WRONG_TOKENS
from router.admin.headers import ALWAYS, CONSOLE_POLICY
from router.admin.server import AdminServer
from router.model.fleet import Secret

TOKEN = "s3cret-token"
LISTED = "https://ops.example.com"
SECURITY = {name: value for name, value in ALWAYS.items() if name != "Content-Security-Policy"}


class Router:
    """Of a `ControlledRouter` what these tests ask; `changes` is what was done to it."""

    def __init__(self) -> None:
        self.changes: list[str] = []

    def is_ready(self) -> bool:
        return True

    async def status(self) -> dict[str, object]:
        return {"draining": False}

    async def set_drain(self, deployment_id: str, draining: bool) -> bool:
        self.changes.append(deployment_id)
        return True


class Plane:
    def __init__(self, router: Router, port: int, session: aiohttp.ClientSession) -> None:
        self.router, self.authority, self._session = router, f"127.0.0.1:{port}", session

    async def ask(
        self, method: str, path: str, headers: Mapping[str, str] = {}, body: bytes | None = None
    ) -> tuple[int, Mapping[str, str]]:
        url = f"http://{self.authority}{path}"
        async with self._session.request(
            method, url, headers=headers, data=body, skip_auto_headers=["content-type"], allow_redirects=False
        ) as answer:
            await answer.read()
            return answer.status, answer.headers

    async def drain(self, headers: Mapping[str, str] = {}, body: bytes | None = None) -> int:
        status, _ = await self.ask("POST", "/deployments/a/b/drain", headers, body)
        assert bool(self.router.changes) is (status == 200)
        self.router.changes.clear()
        return status


@asynccontextmanager
async def listening(token: str | None = None, origins: tuple[str, ...] = ()) -> AsyncIterator[Plane]:
    router = Router()
    server = AdminServer(router, Secret(token) if token else None, origins)  # type: ignore[arg-type]
    port = await server.start("127.0.0.1", 0)
    async with aiohttp.ClientSession() as session:
        yield Plane(router, port, session)
    await server.close()


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


@pytest.fixture
async def plane() -> AsyncIterator[Plane]:
    async with listening() as plane:
        yield plane


@pytest.fixture
async def guarded() -> AsyncIterator[Plane]:
    async with listening(TOKEN) as plane:
        yield plane


# -- what a browser can be made to send

FORMS = [
    "application/x-www-form-urlencoded",
    "multipart/form-data; boundary=x",
    "text/plain",
    "Text/Plain;charset=utf-8",
]


@pytest.mark.parametrize("kind", FORMS)
async def test_a_form_changes_nothing(plane: Plane, kind: str) -> None:
    """Not even one of a browser that would say nothing of where it comes from; with a body and without."""
    for body in (b"", b"a=b"):
        assert await plane.drain({"Content-Type": kind}, body) == 415


async def test_a_form_is_none_of_ours_with_a_token_either(guarded: Plane) -> None:
    assert await guarded.drain({**bearer(TOKEN), "Content-Type": FORMS[0]}, b"{}") == 415
    assert await guarded.drain(bearer(TOKEN)) == 200


async def test_a_body_is_json_or_nothing(plane: Plane) -> None:
    assert await plane.drain({"Content-Type": "application/octet-stream"}, b"{}") == 415
    assert await plane.drain({}, b"{}") == 415
    assert await plane.drain({"Content-Type": "application/json; charset=utf-8"}, b"{}") == 200
    assert await plane.drain() == 200


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
async def test_a_browser_says_that_a_page_is_foreign(plane: Plane, site: str) -> None:
    """`same-site` is another port of this machine: no friend either."""
    fetched = {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "empty"}
    assert await plane.drain(fetched) == 403
    for dest in ("empty", "script", "image", "iframe", "object"):
        mode = "navigate" if dest in ("iframe", "object") else "no-cors"
        asked = {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": mode, "Sec-Fetch-Dest": dest}
        assert (await plane.ask("GET", "/status", asked))[0] == 403, dest


async def test_who_types_an_address_or_follows_a_link_is_let_in(plane: Plane) -> None:
    typed = {"Sec-Fetch-Site": "none", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    for site in ("none", "cross-site", "same-site"):
        assert (await plane.ask("GET", "/console", {**typed, "Sec-Fetch-Site": site}))[0] == 200
    assert await plane.drain({**typed, "Sec-Fetch-Site": "cross-site"}) == 403, "a link changes nothing"
    assert await plane.drain({"Sec-Fetch-Site": "same-origin", "Origin": f"http://{plane.authority}"}) == 200


async def test_no_question_changes_anything() -> None:
    """What changes something takes POST alone: whatever a page can load, an image say, is a GET."""
    routes = [(route.method, route.resource) for route in build_app(Router(), None).router.routes()]  # type: ignore[arg-type]
    assert {method for method, _ in routes} == {"GET", "HEAD", "POST"}
    readers = {resource.canonical for method, resource in routes if method != "POST" and resource is not None}
    changers = {resource.canonical for method, resource in routes if method == "POST" and resource is not None}
    assert changers
    assert readers - set(FILES) == {
        *OPEN_PATHS,
        *("/status", "/explain", "/metrics", "/live", "/requests/{id}", "/keys"),
    }, "a new one must be looked at: does it change anything?"


# -- tokens


async def test_wrong_tokens_are_heard_ten_times_and_then_not_even_a_right_one(guarded: Plane) -> None:
    """Else each try would still be told whether it was right."""
    for number in range(WRONG_TOKENS):
        assert (await guarded.ask("GET", "/status", bearer(f"wrong-{number}")))[0] == 401
    status, headers = await guarded.ask("GET", "/status", bearer("wrong"))
    assert status == 429
    assert 0 < int(headers["Retry-After"]) <= 10
    assert (await guarded.ask("GET", "/status", bearer(TOKEN)))[0] == 429
    assert await guarded.drain(bearer(TOKEN)) == 429
    assert (await guarded.ask("GET", "/readyz"))[0] == 200


async def test_right_tokens_and_no_tokens_are_no_attempts(guarded: Plane) -> None:
    for _ in range(3 * WRONG_TOKENS):
        assert (await guarded.ask("GET", "/status"))[0] == 401
        assert (await guarded.ask("GET", "/status", bearer(TOKEN)))[0] == 200


async def test_health_is_open_to_questions_alone(guarded: Plane) -> None:
    for path in OPEN_PATHS:
        assert (await guarded.ask("GET", path))[0] == 200
        assert (await guarded.ask("POST", path))[0] == 401


# -- other origins


async def test_no_origin_may_read_unless_it_is_listed(plane: Plane) -> None:
    preflight = {"Origin": LISTED, "Access-Control-Request-Method": "GET"}
    for method, path in (("GET", "/status"), ("OPTIONS", "/status"), ("GET", "/healthz")):
        _, headers = await plane.ask(method, path, preflight)
        assert not [name for name in headers if name.lower().startswith("access-control")]


@pytest.mark.parametrize("token", [None, TOKEN])
async def test_a_listed_origin_may_ask_and_read(token: str | None) -> None:
    async with listening(token, (LISTED,)) as plane:
        shown = bearer(token) if token else {}
        page = {"Origin": LISTED, "Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "cors"}
        status, headers = await plane.ask("OPTIONS", "/status", {**page, "Access-Control-Request-Method": "POST"})
        assert (status, headers["Access-Control-Allow-Origin"]) == (204, LISTED)
        assert headers["Access-Control-Allow-Headers"] == "authorization, content-type"
        assert "Access-Control-Allow-Credentials" not in headers
        for path, expected in (("/status", 200), ("/nowhere", 404)):
            status, headers = await plane.ask("GET", path, {**page, **shown})
            assert (status, headers["Access-Control-Allow-Origin"], headers["Vary"]) == (expected, LISTED, "Origin")
        assert await plane.drain({**page, **shown}) == 200
        assert await plane.drain({**page, **shown, "Content-Type": "text/plain"}, b"{}") == 415


@pytest.mark.parametrize("origin", ["https://ops.example.com.evil.test", "http://ops.example.com", "null", "*"])
async def test_an_origin_that_is_like_a_listed_one_is_not(origin: str) -> None:
    async with listening(None, (LISTED,)) as plane:
        page = {"Origin": origin, "Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "cors"}
        assert await plane.drain(page) == 403
        for method in ("GET", "OPTIONS"):
            _, headers = await plane.ask(method, "/status", {**page, "Access-Control-Request-Method": "GET"})
            assert "Access-Control-Allow-Origin" not in headers
            assert headers["Vary"] == "Origin", "a cache must not give one origin's answer to another"


async def test_a_listed_origin_is_no_way_around_the_token_or_the_host() -> None:
    async with listening(TOKEN, (LISTED,)) as plane:
        assert (await plane.ask("GET", "/status", {"Origin": LISTED}))[0] == 401
    async with listening(None, (LISTED,)) as plane:
        rebound = {"Origin": LISTED, "Host": "rebound.example"}
        assert (await plane.ask("GET", "/status", rebound))[0] == 421
        assert (await plane.ask("OPTIONS", "/status", {**rebound, "Access-Control-Request-Method": "GET"}))[0] == 421


# -- headers


async def test_every_answer_tells_browsers_to_trust_nothing_of_it(plane: Plane) -> None:
    asked = [("GET", path) for path in ("/status", "/healthz", "/nowhere", "/console", "/console/app.mjs")]
    for method, path in [*asked, ("POST", "/status"), ("OPTIONS", "/status"), ("POST", "/deployments/a/b/drain")]:
        _, headers = await plane.ask(method, path)
        assert SECURITY.items() <= dict(headers).items(), path
        policy = headers["Content-Security-Policy"]
        assert policy == CONSOLE_POLICY if path in FILES else "sandbox" in policy
        assert "Server" not in headers


async def test_an_answer_that_fails_tells_it_as_well(plane: Plane, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(_: object) -> web.Response:
        raise RuntimeError

    monkeypatch.setattr(Router, "status", fail)
    status, headers = await plane.ask("GET", "/status")
    assert status == 500
    assert SECURITY.items() <= dict(headers).items()
