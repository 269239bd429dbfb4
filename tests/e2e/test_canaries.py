"""A secret in every place that may hold one, a whole day in small, and then a look into everything that came out."""

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest
from click.testing import CliRunner

from router.cli import main
from tests.adversity.client import ask, chat, sent
from tests.adversity.collector import Collector, collector
from tests.e2e.test_process import serve
from tests.e2e.workers import Workers, until
from tests.router_kit import API_KEY, INTERNAL_KEY, Cloud, write_config

# What operators keep secret, as variables of the environment; each is used by the router.
OURS = {
    name: f"canary-{name.lower().replace('_', '-')}-5eb1"
    for name in (
        "AZURE_KEY",
        "CW_KEY",
        "DEAD_KEY",
        "TEAM",
        "ADMIN_TOKEN",
        "COLLECTOR_KEY",
        "REDIS_PASSWORD",
        "STORE_PASSWORD",
    )
}
WRITTEN = "canary-written-into-a-bad-file-5eb1"
# What clients send, and nobody is to keep.
THEIRS = {
    name: f"canary-client-{name}-5eb1"
    for name in (
        "prompt",
        "user",
        "cookie",
        "header",
        "query",
        "path",
        "model",
        "key",
        "token",
        "file",
        "name",
        "value",
    )
}
CLOUDS = {name: f"canary-cloud-{name}-5eb1" for name in ("cookie", "server", "header")}
KEYS = {"api": API_KEY, "internal": INTERNAL_KEY}


def config(folder: Path, clouds: dict[str, Any], seen: Collector, workers: int) -> Path:
    sections = {name: Cloud(name, *_KINDS[name]).section(cloud.base_url) for name, cloud in clouds.items()}
    sections["azure"] |= {"auth": {"api_key": "${AZURE_KEY}"}, "headers": {"x-team": "${TEAM}"}, "probe": True}
    sections["cw"]["auth"] = {"bearer": "${CW_KEY}"}
    sections["dead"] = {**sections["azure"], "base_url": "http://127.0.0.1:1", "auth": {"api_key": "${DEAD_KEY}"}}
    store = {"store": "postgresql://router:${STORE_PASSWORD}@127.0.0.1:1/ledger"} if workers > 1 else {}
    file = folder / "router.yaml"
    write_config(
        file,
        sections,
        folder / "access.log",
        server={"admin_token": "${ADMIN_TOKEN}", "workers": workers, "drain_s": 5},
        tracing=seen.section(headers={"x-vendor-key": "${COLLECTOR_KEY}"}),
        redis={"url": "redis://:${REDIS_PASSWORD}@127.0.0.1:1/0"},
        ledger={"dir": "ledger", **store},
    )
    return file


_KINDS: dict[str, tuple[str, str]] = {"azure": ("azure", "azure_openai"), "cw": ("coreweave", "openai")}


class Day:
    """What is done to the router, and all that it says meanwhile."""

    def __init__(self, folder: Path, r: Workers, seen: Collector) -> None:
        self.folder, self.r, self.seen = folder, r, seen
        self.said: dict[str, bytes] = {}

    def note(self, what: str, *texts: object) -> None:
        for text in texts:
            self.said[what] = self.said.get(what, b"") + (text if isinstance(text, bytes) else str(text).encode())

    async def ask(self, what: str, path: str, method: str = "POST", **more: Any) -> int:
        """A client's request; the answer is noted, with its head."""
        headers = {"authorization": f"Bearer {API_KEY}", **more.pop("headers", {})}
        url = f"http://127.0.0.1:{self.r.port}{path}"
        async with aiohttp.ClientSession() as session, session.request(method, url, headers=headers, **more) as got:
            self.note(f"answer to {what}", dict(got.headers), await got.read())
            return got.status

    async def admin(self, path: str, method: str = "GET", token: str = OURS["ADMIN_TOKEN"], **more: Any) -> bytes:
        headers = {"authorization": f"Bearer {token}"}
        url = f"http://127.0.0.1:{self.r.admin_port}{path}"
        async with aiohttp.ClientSession() as session, session.request(method, url, headers=headers, **more) as got:
            shown = await got.read()
            self.note(f"control plane's {method} {path}", dict(got.headers), shown)
            return shown


@contextlib.asynccontextmanager
async def a_day(folder: Path, workers: int) -> AsyncIterator[Day]:
    async with contextlib.AsyncExitStack() as stack:
        seen = await stack.enter_async_context(collector())
        clouds = {name: Cloud(name, *_KINDS[name]).emulated() for name in _KINDS}
        for cloud in clouds.values():
            await stack.enter_async_context(cloud)
        for name, cloud in clouds.items():
            object.__setattr__(cloud.endpoint, "key", OURS[f"{name.upper()}_KEY"])
        file, log = config(folder, clouds, seen, workers), folder / "access.log"
        log.touch()
        process = await serve(file, **OURS)
        r = Workers(process, file, log, clouds, 0, 0, [])
        try:
            await until(lambda: r.events("started") or process.returncode is not None, 30)
            assert process.returncode is None, await r.ended()
            (started,) = r.events("started")
            r.port, r.admin_port = started["port"], started["admin_port"]
            yield Day(folder, r, seen)
        finally:
            if process.returncode is None:
                process.kill()
                await process.communicate()


def body(**fields: Any) -> dict[str, Any]:
    return {
        "model": "gpt-4o",
        "messages": [{"role": "user", "content": THEIRS["prompt"]}],
        "user": THEIRS["user"],
        **fields,
    }


async def clients(day: Day) -> None:
    """All that goes well and all that goes wrong, with a canary in each field that a client writes."""
    azure, cw = day.r.clouds["azure"], day.r.clouds["cw"]
    told = {"cookie": THEIRS["cookie"], "x-more": THEIRS["header"], "proxy-authorization": THEIRS["token"]}
    assert await day.ask("chat", "/v1/chat/completions", json=body(), headers=told) == 200
    received = azure.received.last
    assert received is not None
    fields = dict(received.headers)
    assert (fields["api-key"], fields["x-team"]) == (OURS["AZURE_KEY"], OURS["TEAM"]), "they are used"
    assert not {"cookie", "x-more", "proxy-authorization", "authorization"} & fields.keys()
    await day.ask("stream", "/v1/chat/completions", json=body(stream=True))
    await day.ask("query", f"/v1/chat/completions?api_key={THEIRS['query']}", json=body())
    await day.ask("path", f"/v1/{THEIRS['path']}", json=body())
    await day.ask("model", "/v1/chat/completions", json=body(model=THEIRS["model"]))
    for key in ("authorization", "api-key"):
        wrong = {key: f"Bearer {THEIRS['key']}" if key == "authorization" else THEIRS["key"]}
        assert await day.ask("wrong key", "/v1/chat/completions", json=body(), headers=wrong) in (401, 503)
    await day.ask("no JSON", "/v1/chat/completions", data=f'{{"model": "gpt-4o", {THEIRS["value"]}'.encode())
    await day.ask("wrong type", "/v1/chat/completions", json=body(stream=THEIRS["value"]))
    await day.ask("twice", "/v1/chat/completions", data=b'{"model":"gpt-4o","model":"%s"}' % THEIRS["model"].encode())
    form = aiohttp.FormData({"model": "gpt-4o", THEIRS["name"]: THEIRS["value"]})
    form.add_field("file", b"x", filename=THEIRS["file"])
    await day.ask("form", "/v1/audio/transcriptions", data=form)
    leak = {"set-cookie": CLOUDS["cookie"], "server": CLOUDS["server"], "x-internal": CLOUDS["header"]}
    for status in (400, 401, 404, 429, 500):
        for cloud in (azure, cw):
            cloud.faults.clear()
            cloud.faults.add("status", status=status, headers=leak)
        inner = {"authorization": f"Bearer {INTERNAL_KEY}"}
        await day.ask(f"upstream's {status}", "/v1/chat/completions", json=body(), headers=inner)
        await day.ask(f"upstream's {status}", "/v1/chat/completions", json=body())
    for cloud in (azure, cw):
        cloud.faults.clear()
    reader, writer = await asyncio.open_connection("127.0.0.1", day.r.port)
    writer.write(b"GET /v1/models HTTP/1.1\r\nHost: x\r\nX Bad: %b\r\n\r\n" % THEIRS["header"].encode())
    day.note("answer to bad bytes", await reader.read())
    writer.close()
    async with sent(day.r, chat(stream=True)) as call:  # and hangs up
        await call.head()


async def operators(day: Day) -> None:
    answered = await ask(day.r, chat())
    await until(lambda: any(record["id"] == answered.headers["x-request-id"] for record in day.r.records()))
    for path in ("/status", "/metrics", "/live", "/keys", "/console", "/healthz", "/readyz"):
        await day.admin(path)
    await day.admin("/explain?key=api&model=gpt-4o")
    await day.admin(f"/requests/{answered.headers['x-request-id']}")
    await day.admin("/status", token=THEIRS["token"])
    await day.admin("/keys", "POST", json={"name": "shop", "workload": "api", "sha256": WRITTEN})
    good = day.r.file.read_bytes()
    bad = orjson.loads(good)
    bad["endpoints"]["azure"]["auth"] = {"api_kee": WRITTEN}
    bad["endpoints"]["cw"]["base_url"] = f"http://user:{WRITTEN}@127.0.0.1/v1"
    bad["keys"][0]["sha256"] = WRITTEN
    day.r.file.write_bytes(orjson.dumps(bad))
    assert b"configuration_refused" in await day.admin("/reload", "POST")
    day.r.process.send_signal(signal.SIGHUP)
    await until(lambda: len(day.r.events("reload_refused")) >= 2)
    for options in ([], ["--json"]):
        day.note("check of a bad file", CliRunner().invoke(main, ["check", *options, str(day.r.file)], env=OURS).output)
    day.r.file.write_bytes(good)
    for options in ([], ["--json"]):
        shown = CliRunner().invoke(main, ["check", *options, str(day.r.file)], env=OURS)
        assert shown.exit_code == 0, shown.output
        day.note("check", shown.output)
    await day.admin("/reload", "POST")


def environment_of_the_bookkeeper(parent: int) -> bytes:
    for each in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            child_of = int((each / "stat").read_text().rpartition(")")[2].split()[1])
            if child_of == parent and b"router.ledger.bookkeeper" in (each / "cmdline").read_bytes():
                return (each / "environ").read_bytes()
    raise AssertionError("there is no bookkeeper")


@pytest.mark.parametrize("workers", [1, 2])
async def test_no_secret_comes_out_anywhere(tmp_path: Path, workers: int) -> None:
    async with a_day(tmp_path, workers) as day:
        await clients(day)
        await operators(day)
        await until(lambda: len(day.seen.spans) > 1)
        day.note("the bookkeeper's environment", environment_of_the_bookkeeper(day.r.process.pid))
        day.r.process.send_signal(signal.SIGTERM)
        status, said = await day.r.ended()
        assert status == 0, said
        day.note("standard output and error", said)
        day.note("spans", day.seen.raw)
        for file in tmp_path.rglob("*"):
            if file.is_file() and file.name != "router.yaml":
                day.note(f"file {file.relative_to(tmp_path)}", file.read_bytes())
    assert {"file access.log", "spans", "check", "control plane's GET /metrics"} <= day.said.keys()
    assert any(name.startswith("file decisions") for name in day.said)
    assert any(name.startswith("file ledger") for name in day.said)
    secrets = {**OURS, **THEIRS, **CLOUDS, **KEYS, "written": WRITTEN}
    found = [
        (name, where) for where, text in day.said.items() for name, secret in secrets.items() if secret.encode() in text
    ]
    assert found == []


def test_the_search_would_find_one() -> None:
    """The environment that the router is given has them all: so much for the way in which they are looked for."""
    assert all(secret.encode() in orjson.dumps({**os.environ, **OURS}) for secret in OURS.values())
