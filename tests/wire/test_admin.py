"""The control plane over real sockets, with a router that only says what it is told to."""

import asyncio
import json
import logging
import socket
import threading
from collections.abc import AsyncIterator

import aiohttp
import pytest

from router.admin.control import Refusal, ReloadResult
from router.admin.server import AdminServer
from router.config.compare import Change, Comparison, Field
from router.config.faults import Fault
from router.model.fleet import Secret
from router.telemetry import names
from router.telemetry.exposition import OPENMETRICS, TEXT, render
from router.telemetry.reading import Reading

CHANGED = Comparison(
    "v1", "v2", changes=(Change("aliases", "best", "changed", (Field("means", "gpt-4o", "gpt-4.1"),)),)
)


class FakeRouter:
    """A `ControlledRouter` whose answers a test sets."""

    def __init__(self) -> None:
        self.ready, self.reloads = True, 0
        self.reload_result = ReloadResult("v2", changed=CHANGED)
        self.state: dict[str, object] = {"draining": False, "workloads": {"api": {"servable": True}}}
        self.deployments = {"azure-eastus2/gpt-4o-ptu": False, "ord/a/b": False}

    def is_ready(self) -> bool:
        return self.ready

    async def status(self) -> dict[str, object]:
        return self.state

    async def explain(self, key: str, model: str, operation: str) -> dict[str, object]:
        if key != "acme":
            raise LookupError(f"no key is named {key!r}; there is acme")
        return {"key": key, "model": model, "operation": operation}

    async def reload(self) -> ReloadResult:
        self.reloads += 1
        return self.reload_result

    async def set_drain(self, deployment_id: str, draining: bool) -> bool:
        if deployment_id not in self.deployments:
            return False
        self.deployments[deployment_id] = draining
        return True

    async def reading(self) -> Reading:
        return Reading({names.DRAINING.name: {(): 1}})


class Plane:
    """A listening control plane and a client of it."""

    def __init__(self, router: FakeRouter, port: int, session: aiohttp.ClientSession) -> None:
        self.router, self.port, self._session = router, port, session

    async def ask(self, method: str, path: str, **headers: str) -> tuple[int, aiohttp.typedefs.LooseHeaders, bytes]:
        url = f"http://127.0.0.1:{self.port}{path}"
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        async with self._session.request(method, url, headers=named) as answer:
            return answer.status, answer.headers, await answer.read()

    async def error_of(self, method: str, path: str, **headers: str) -> tuple[int, dict[str, object]]:
        """The status and the error object, which every failure must have."""
        status, answered, body = await self.ask(method, path, **headers)
        assert answered["Content-Type"].startswith("application/json")
        error = json.loads(body)["error"]
        assert {"message", "type", "param", "code"} <= set(error)
        return status, error

    async def raw(self, data: bytes) -> bytes:
        """The bytes that come back for these, until the other side closes."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(data)
        answer = await asyncio.wait_for(reader.read(), 5)
        writer.close()
        await writer.wait_closed()
        return answer


async def listening(token: Secret | None) -> AsyncIterator[Plane]:
    router = FakeRouter()
    server = AdminServer(router, token)
    port = await server.start("127.0.0.1", 0)
    async with aiohttp.ClientSession() as session:
        yield Plane(router, port, session)
    await server.close()


@pytest.fixture
async def plane() -> AsyncIterator[Plane]:
    async for plane in listening(None):
        yield plane


@pytest.fixture
async def guarded() -> AsyncIterator[Plane]:
    async for plane in listening(Secret("s3cret-tökén")):
        yield plane


async def test_health_has_no_body_and_readiness_follows_the_router(plane: Plane) -> None:
    assert [(await plane.ask("GET", path))[::2] for path in ("/healthz", "/readyz")] == [(200, b""), (200, b"")]
    plane.router.ready = False
    assert [(await plane.ask("GET", path))[::2] for path in ("/healthz", "/readyz")] == [(200, b""), (503, b"")]


async def test_status_is_the_routers_own(plane: Plane) -> None:
    status, headers, body = await plane.ask("GET", "/status")
    assert (status, json.loads(body)) == (200, plane.router.state)
    assert headers["Cache-Control"] == "no-store"
    assert "Server" not in headers


async def test_metrics_are_the_router_s_in_the_form_that_the_client_accepts(plane: Plane) -> None:
    status, headers, body = await plane.ask("GET", "/metrics", Accept="application/openmetrics-text")
    assert (status, headers["Content-Type"]) == (200, OPENMETRICS)
    assert b"\nrouter_draining 1\n" in body
    assert (await plane.ask("GET", "/metrics"))[1]["Content-Type"] == TEXT


async def test_a_good_reload_names_the_new_version(plane: Plane) -> None:
    status, _, body = await plane.ask("POST", "/reload")
    assert (status, plane.router.reloads) == (200, 1)
    field = {"name": "means", "before": "gpt-4o", "after": "gpt-4.1"}
    change = {"section": "aliases", "name": "best", "kind": "changed", "reach": "", "exclusive": False}
    changed = {"before": "v1", "after": "v2", "restart": [], "changes": [{**change, "fields": [field]}]}
    assert json.loads(body) == {"version": "v2", "changed": changed}


async def test_an_explanation_is_asked_for_by_name(plane: Plane) -> None:
    status, _, body = await plane.ask("GET", "/explain?key=acme&model=gpt-4o")
    assert (status, json.loads(body)) == (200, {"key": "acme", "model": "gpt-4o", "operation": ""})
    status, error = await plane.error_of("GET", "/explain?key=acm&model=gpt-4o")
    assert (status, error["code"]) == (404, "unknown_name")
    assert error["message"] == "No key is named 'acm'; there is acme."


async def test_a_refused_reload_names_every_fault(plane: Plane) -> None:
    faults = (Fault("router.yaml", 12, "keys[0].workload", "no such workload"), Fault("router.yaml", 0, "", "empty"))
    plane.router.reload_result = ReloadResult("v1", Refusal.FAULTS, faults)
    status, error = await plane.error_of("POST", "/reload")
    assert status == 409
    assert (error["version"], error["reason"]) == ("v1", "faults")
    assert error["faults"] == [
        {"file": "router.yaml", "line": 12, "path": "keys[0].workload", "message": "no such workload"},
        {"file": "router.yaml", "line": 0, "path": "", "message": "empty"},
    ]


@pytest.mark.parametrize("written", ["azure-eastus2/gpt-4o-ptu", "azure-eastus2%2Fgpt-4o-ptu"])
async def test_a_deployment_is_drained_and_taken_back(plane: Plane, written: str) -> None:
    name = "azure-eastus2/gpt-4o-ptu"
    status, _, body = await plane.ask("POST", f"/deployments/{written}/drain")
    assert (status, json.loads(body)) == (200, {"deployment": name, "draining": True})
    assert plane.router.deployments == {name: True, "ord/a/b": False}
    status, _, body = await plane.ask("POST", f"/deployments/{written}/undrain")
    assert (status, json.loads(body)) == (200, {"deployment": name, "draining": False})
    assert plane.router.deployments[name] is False


async def test_a_deployments_id_may_have_more_than_one_slash(plane: Plane) -> None:
    assert (await plane.ask("POST", "/deployments/ord/a/b/drain"))[0] == 200
    assert plane.router.deployments["ord/a/b"] is True


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("POST", "/deployments/nowhere/drain", 404, "deployment_not_found"),
        ("POST", "/deployments//drain", 404, "not_found"),
        ("GET", "/", 404, "not_found"),
        ("GET", "/v1/models", 404, "not_found"),
        ("GET", "/healthz/", 404, "not_found"),
        ("GET", "/reload", 405, "method_not_allowed"),
        ("POST", "/status", 405, "method_not_allowed"),
        ("DELETE", "/deployments/ord/a/b/drain", 405, "method_not_allowed"),
    ],
)
async def test_what_is_not_there_is_a_json_error(plane: Plane, method: str, path: str, status: int, code: str) -> None:
    got, error = await plane.error_of(method, path)
    assert (got, error["code"]) == (status, code)


async def test_a_wrong_method_is_told_the_right_one(plane: Plane) -> None:
    for path in ("/reload", "/deployments/ord/a/b/drain"):
        assert (await plane.ask("GET", path))[1]["Allow"] == "POST"
        assert (await plane.error_of("GET", path))[1]["message"] == "This path takes POST."
    assert (await plane.error_of("POST", "/status"))[1]["message"] == "This path takes GET or HEAD."


async def test_who_asks_at_the_wrong_place_is_told_what_is_here(plane: Plane) -> None:
    for path in ("/", "/v1/chat/completions"):
        message = (await plane.error_of("GET", path))[1]["message"]
        assert "the console is at /console" in message
        assert "Clients ask at" in message


async def test_a_failing_handler_tells_nothing_of_itself(
    plane: Plane, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> dict[str, object]:
        raise RuntimeError("hunter2 in line 7")

    monkeypatch.setattr(plane.router, "status", fail)
    asyncio.get_running_loop().set_debug(True)  # in which aiohttp's own answer would be the trace
    with caplog.at_level(logging.ERROR):
        status, headers, body = await plane.ask("GET", "/status", Accept="text/html")
    assert status == 500
    assert json.loads(body)["error"]["code"] == "internal_error"
    assert b"hunter2" not in body
    assert b"Traceback" not in body
    assert "Server" not in headers
    assert "RuntimeError at test_admin.py:" in caplog.text
    assert "hunter2" not in caplog.text, "a text of an error may hold what was asked"
    assert (await plane.ask("GET", "/healthz"))[0] == 200


async def test_a_secret_in_the_status_is_an_error_and_not_shown(plane: Plane) -> None:
    plane.router.state = {"token": Secret("hunter2")}
    status, _, body = await plane.ask("GET", "/status")
    assert status == 500
    assert b"hunter2" not in body


@pytest.mark.parametrize(
    "host", ["rebound.example", "rebound.example:9090", "127.0.0.1.evil.test", "10.0.0.1", "localhost@evil.test", ""]
)
async def test_a_rebound_name_is_turned_away(plane: Plane, host: str) -> None:
    for method, path in (("GET", "/status"), ("GET", "/metrics"), ("POST", "/reload"), ("GET", "/nowhere")):
        status, error = await plane.error_of(method, path, Host=host)
        assert (status, error["code"]) == (421, "misdirected_request")
    assert plane.router.reloads == 0


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:9090", "127.0.0.1", "[::1]", "[::1]:9090", "127.0.0.1:1"])
async def test_the_loopback_names_are_let_in(plane: Plane, host: str) -> None:
    assert (await plane.ask("GET", "/status", Host=host))[0] == 200


async def test_two_hosts_or_none_are_turned_away(plane: Plane) -> None:
    two = b"GET /status HTTP/1.1\r\nHost: localhost\r\nHost: evil.test\r\nConnection: close\r\n\r\n"
    assert not (await plane.raw(two)).startswith(b"HTTP/1.1 200")
    assert (await plane.raw(b"GET /status HTTP/1.0\r\n\r\n")).startswith(b"HTTP/1.0 421")
    assert (await plane.raw(b"GET /readyz HTTP/1.0\r\n\r\n")).startswith(b"HTTP/1.0 200")


@pytest.mark.parametrize(
    "origin", ["https://evil.test", "null", "http://localhost:3000", "https://localhost:9090", "http://localhost", ""]
)
async def test_a_page_elsewhere_cannot_post(plane: Plane, origin: str) -> None:
    for path in ("/reload", "/deployments/ord/a/b/drain"):
        status, error = await plane.error_of("POST", path, Host="localhost:9090", Origin=origin)
        assert (status, error["code"]) == (403, "foreign_origin")
    assert plane.router.reloads == 0
    assert plane.router.deployments["ord/a/b"] is False


async def test_a_page_of_our_own_can_post(plane: Plane) -> None:
    assert (await plane.ask("POST", "/reload", Host="localhost:9090", Origin="http://localhost:9090"))[0] == 200


async def test_a_token_opens_everything_under_any_name(guarded: Plane) -> None:
    right = {"Authorization": "Bearer s3cret-tökén", "Host": "router.internal"}
    for path in ("/status", "/metrics"):
        assert (await guarded.ask("GET", path, **right))[0] == 200
    assert (await guarded.ask("POST", "/reload", **right))[0] == 200
    assert (await guarded.ask("GET", "/status", Authorization="bearer s3cret-tökén"))[0] == 200


@pytest.mark.parametrize(
    "shown", ["", "Bearer", "Bearer ", "Bearer s3cret", "Bearer s3cret-tökénx", "Basic s3cret-tökén", "s3cret-tökén"]
)
async def test_without_the_token_only_health_answers(guarded: Plane, shown: str) -> None:
    everything = [
        ("GET", "/status"),
        ("GET", "/metrics"),
        ("POST", "/reload"),
        ("GET", "/nowhere"),
        ("PUT", "/healthz/"),
    ]
    for method, path in everything:
        status, error = await guarded.error_of(method, path, Authorization=shown)
        assert (status, error["code"]) == (401, "unauthorized")
        assert "s3cret-tökén" not in str(error)
    assert guarded.router.reloads == 0
    assert [(await guarded.ask("GET", path))[0] for path in ("/healthz", "/readyz")] == [200, 200]


async def test_a_token_that_is_not_text_is_only_wrong(guarded: Plane) -> None:
    answer = await guarded.raw(
        b"GET /status HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer \xff\xfe\r\nConnection: close\r\n\r\n"
    )
    assert answer.startswith(b"HTTP/1.1 401")
    assert b"WWW-Authenticate: Bearer" in answer


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "example.com"])
async def test_off_loopback_needs_a_token(host: str) -> None:
    server = AdminServer(FakeRouter(), None)
    with pytest.raises(ValueError, match="without a token"):
        await server.start(host, 0)
    await server.close()


async def test_a_taken_port_is_an_error_and_close_ends_the_listening(plane: Plane) -> None:
    second = AdminServer(FakeRouter(), None)
    with pytest.raises(OSError, match="in use"):
        await second.start("127.0.0.1", plane.port)
    await second.close()

    third = AdminServer(FakeRouter(), None)
    port = await third.start("127.0.0.1", 0)
    await third.close()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", port)


async def test_bytes_that_are_no_http_neither_stop_it_nor_fill_a_log(
    plane: Plane, caplog: pytest.LogCaptureFixture
) -> None:
    answer = await plane.raw(b"GET /status HTTP/1.1\r\nno field\r\n\r\n")
    assert b" 400 " in answer.splitlines()[0]
    assert b"Traceback" not in answer
    assert caplog.text == ""
    assert (await plane.ask("GET", "/healthz"))[0] == 200


async def test_the_page_is_written_beside_the_loop(plane: Plane, monkeypatch: pytest.MonkeyPatch) -> None:
    """With one process this loop also serves requests, and the page of a large fleet takes long to write."""
    threads: list[int] = []

    def noted(reading: Reading, accept: str) -> tuple[bytes, str]:
        threads.append(threading.get_ident())
        return render(reading, accept)

    monkeypatch.setattr("router.admin.app.render", noted)
    assert (await plane.ask("GET", "/metrics"))[0] == 200
    assert threads != [threading.get_ident()]


async def test_a_socket_that_somebody_else_has_opened_to_the_network_needs_a_token() -> None:
    """systemd's: where it listens stands in a unit, and not in the file that is checked."""
    with socket.create_server(("0.0.0.0", 0)) as opened:
        with pytest.raises(ValueError, match=r"'0\.0\.0\.0' without a token"):
            await AdminServer(FakeRouter(), None).start("127.0.0.1", 9090, (opened,))
        server = AdminServer(FakeRouter(), Secret("t"))
        assert await server.start("127.0.0.1", 9090, (opened,)) == opened.getsockname()[1]
        await server.close()
