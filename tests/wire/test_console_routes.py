"""How the console is reached over real sockets, with and without the control plane's token."""

import asyncio
import json
from collections.abc import AsyncIterator

import aiohttp
import pytest

from router.admin.console import FILES
from router.admin.server import AdminServer
from router.model.fleet import Secret


class Router:
    """Of a `ControlledRouter` what the console asks."""

    def __init__(self) -> None:
        self.looks, self.asked, self.drained = 0, "", ""

    async def live(self) -> dict[str, object]:
        self.looks += 1
        return {"at": 1.0}

    async def story(self, request_id: str) -> dict[str, object] | None:
        self.asked = request_id
        return {"request": request_id} if "unknown" not in request_id else None

    async def set_drain(self, deployment_id: str, draining: bool) -> bool:
        self.drained = deployment_id
        return True


class Plane:
    def __init__(self, router: Router, port: int, session: aiohttp.ClientSession) -> None:
        self.router, self.url, self.session = router, f"http://127.0.0.1:{port}", session

    async def ask(self, path: str, method: str = "GET", **headers: str) -> tuple[int, bytes]:
        async with self.session.request(method, self.url + path, headers=headers) as answer:
            return answer.status, await answer.read()


@pytest.fixture(params=[None, "s3cret"])
async def plane(request: pytest.FixtureRequest) -> AsyncIterator[Plane]:
    router = Router()
    server = AdminServer(router, Secret(request.param) if request.param else None)  # type: ignore[arg-type]
    port = await server.start("127.0.0.1", 0)
    headers = {"Authorization": f"Bearer {request.param}"} if request.param else {}
    async with aiohttp.ClientSession(headers=headers) as session:
        yield Plane(router, port, session)
    await server.close()


@pytest.fixture
async def guarded() -> AsyncIterator[Plane]:
    """With a token that the client does not show."""
    router = Router()
    server = AdminServer(router, Secret("s3cret"))  # type: ignore[arg-type]
    port = await server.start("127.0.0.1", 0)
    async with aiohttp.ClientSession() as session:
        yield Plane(router, port, session)
    await server.close()


async def test_the_browser_may_load_what_this_port_has_and_nothing_else(plane: Plane) -> None:
    for path in FILES:
        async with plane.session.get(plane.url + path) as answer:
            policy = answer.headers["Content-Security-Policy"]
            assert answer.status == 200
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
            assert "default-src 'none'" in policy
            assert "script-src 'self';" in policy
            assert "frame-ancestors 'none'" in policy
            assert not any(word in policy for word in ("unsafe", "http", "*", "data:"))
            wanted = "text/javascript" if path.endswith(".mjs") else "text/"
            assert answer.headers["Content-Type"].startswith(wanted if not path.endswith(".svg") else "image/svg")


async def test_nothing_beside_the_files_of_the_table_is_served(plane: Plane) -> None:
    for path in (
        "/console/__init__.py",
        "/console/vendor/README.md",
        "/console/../guard.py",
        "/console/%2e%2e/guard.py",
    ):
        assert (await plane.ask(path))[0] == 404, path


async def test_picture_and_story_come_as_json(plane: Plane) -> None:
    assert json.loads((await plane.ask("/live"))[1]) == {"at": 1.0}
    assert json.loads((await plane.ask("/requests/a%2Fb%20c"))[1]) == {"request": "a/b c"}
    status, body = await plane.ask("/requests/unknown")
    assert (status, json.loads(body)["error"]["code"]) == (404, "request_not_found")


async def test_all_who_look_at_once_see_one_picture(plane: Plane) -> None:
    """A picture of a large fleet takes tens of milliseconds: twenty who watch must not cost twenty of them a second."""
    seen = await asyncio.gather(*(plane.ask("/live") for _ in range(20)))
    assert {json.loads(body)["at"] for _, body in seen} == {1.0}
    assert plane.router.looks == 1


async def test_who_has_drained_a_deployment_sees_it_drained_at_once(plane: Plane) -> None:
    await plane.ask("/live")
    await plane.ask("/deployments/a/b/drain", "POST")
    await plane.ask("/live")
    assert plane.router.looks == 2


async def test_an_old_picture_is_not_shown_again(plane: Plane, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("router.admin.app.SEEN_S", 0.0)
    for looks in (1, 2):
        await plane.ask("/live")
        assert plane.router.looks == looks


async def test_without_its_token_the_page_is_empty_and_the_data_is_closed(guarded: Plane) -> None:
    assert {(await guarded.ask(path))[0] for path in FILES} == {200}
    for method, path in (("GET", "/live"), ("GET", "/requests/r"), ("POST", "/deployments/a/b/drain")):
        assert (await guarded.ask(path, method))[0] == 401, path
    assert (guarded.router.looks, guarded.router.asked, guarded.router.drained) == (0, "", "")


async def test_a_page_of_another_origin_cannot_drain(plane: Plane) -> None:
    """With a token it has none; without one it is refused by its origin."""
    if "Authorization" in plane.session.headers:
        plane.session.headers.popall("Authorization")
    status, _ = await plane.ask("/deployments/a/b/drain", "POST", Origin="http://evil.example")
    assert status in (401, 403)
    assert plane.router.drained == ""
