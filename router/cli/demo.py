"""`inference-router demo`: emulated clouds, the router in front of them, a request of each kind, and a story.

The story (`router/cli/story`) takes an Azure region through its worst ten minutes in one. What the router decided is
then reported and verified by the same commands that an operator has.

Everything runs in this one process, so nothing can be left running when it ends, however it ends. The clouds are
spoken to through real sockets all the same. Ports that are taken are replaced by free ones, so it runs any number of
times on one machine.
"""

import asyncio
import errno
import math
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final

import click
import orjson
from rich.console import Console
from ruamel.yaml import YAML

from router.base.loops import heed, run_loop
from router.cli.audit import verify
from router.cli.report.refusals import refusals
from router.cli.story.script import REGION, WitnessingCloud
from router.cli.story.telling import Story
from router.cli.story.traffic import Flow
from router.cli.tour import Place, Tour, new_session
from router.config.load import load
from router.emulator import EmulatorConfigError, load_endpoints
from router.telemetry.anchors import new_key
from router.worker import Worker

CONFIG: Final = Path(__file__).parents[2] / "config" / "demo.yaml"
API_KEY: Final = "sk-ir-demo-api"
INTERNAL_KEY: Final = "sk-ir-demo-internal"

LOG: Final = "decisions"
ANCHORS: Final = "anchors.jsonl"
SIGNING_KEY: Final = "decision-log.pem"
API_FLOW: Final = Flow("api", API_KEY, rate=6, marked=True)
INTERNAL_FLOW: Final = Flow("internal", INTERNAL_KEY, rate=18)
STORY_S: Final = 60.0
STORY_ONCE_S: Final = 12.0

_FOREWORD: Final = """
Ten minutes in {seconds:.0f} seconds: an Azure region slows, throttles, dies and recovers.
Emulated latencies and the router's timers are a tenth of real ones. Customers'
requests (api) may run on Azure alone; internal ones are offered to Azure first.
"""

_AFTERWORD: Final = """
Serving at {url}/v1, with two keys:
  {api_key}        customers' traffic: emulated Azure, and nowhere else
  {internal_key}   internal work: offered to Azure first; told who served

curl:
  curl -iN {url}/v1/chat/completions \\
    -H 'authorization: Bearer {internal_key}' \\
    -H 'content-type: application/json' -d '{{"model": "gpt-4o",
      "stream": true, "messages": [{{"role": "user", "content": "Hello"}}]}}'

Python, OpenAI:
  from openai import OpenAI
  client = OpenAI(base_url="{url}/v1", api_key="{api_key}")
  print(client.responses.create(model="gpt-4o", input="Hello").output_text)

Python, AzureOpenAI:
  from openai import AzureOpenAI
  client = AzureOpenAI(azure_endpoint="{url}",
                       api_key="{api_key}", api_version="2024-10-21")
  print(client.embeddings.create(model="text-embedding-3-small", input="Hello"))

Break a region, and make it whole again (-X DELETE). The router obeys a wait:
it leaves each deployment that says so alone for retry_after seconds.
  curl {region}/__emulator/faults \\
    -d '{{"kind": "status", "status": 429, "retry_after": 2}}'

Where would a request go now, and why?
  inference-router explain --admin {admin_url} \\
    --key demo-internal --model gpt-4o

Control plane: {admin_url}/console, {admin_url}/status
               and {admin_url}/metrics
Access log:    {log}
"""


class PortTakenError(Exception):
    """A port that was asked for belongs to somebody else; the text says what to do."""


@click.command()
@click.option("--once", is_flag=True, help="End after the story; exit status 1 where something went wrong.")
@click.option(
    "--seconds",
    type=click.FloatRange(5, 600),
    help=f"How long the story takes. Default: {STORY_S:.0f}, or {STORY_ONCE_S:.0f} with --once.",
)
@click.option("--port", type=click.IntRange(1, 65535), help="The data plane's. Default: 8080, or a free one.")
@click.option("--admin-port", type=click.IntRange(1, 65535), help="The control plane's. Default: 9090, or a free one.")
def demo(once: bool, seconds: float | None, port: int | None, admin_port: int | None) -> None:
    """Start emulated clouds and the router, show a region's worst minutes, and serve until Ctrl-C."""
    if not CONFIG.is_file():
        raise click.ClickException("the demo needs config/demo.yaml of the repository: run it from a clone")
    if seconds is None:
        seconds = STORY_ONCE_S if once else STORY_S
    try:
        good = run_loop(_demo(once=once, seconds=seconds, port=port, admin_port=admin_port))
    except (PortTakenError, EmulatorConfigError, OSError) as error:
        raise click.ClickException(f"cannot start: {error}") from None
    except asyncio.CancelledError:  # stopped before the story was told
        good = not once
    sys.exit(0 if good else 1)


async def _demo(*, once: bool, seconds: float, port: int | None, admin_port: int | None) -> bool:
    """Returns whether every request came out as it must, and the decision log shows it."""
    task = asyncio.current_task()
    assert task is not None
    for name in ("SIGTERM", "SIGINT"):
        heed(name, task.cancel)
    with tempfile.TemporaryDirectory(prefix="inference-router-demo-") as name:
        folder = Path(name)
        async with _clouds() as clouds, _router(folder, clouds, port, admin_port) as worker:
            url, admin_url = f"http://127.0.0.1:{worker.port}", f"http://127.0.0.1:{worker.admin_port}"
            log = folder / "access.log"
            click.echo(f"{len(clouds)} emulated clouds, and the router in front of them at {url}/v1")
            click.echo(f"The console, to look on: {admin_url}/console\n")
            console = Console(highlight=False)
            async with new_session() as http:
                place = Place(f"{url}/v1", log, {name: (each.cloud, each.origin) for name, each in clouds.items()})
                problems = await Tour(http, place, console).run(API_KEY, INTERNAL_KEY)
                click.echo(_FOREWORD.format(seconds=seconds))
                story = Story(seconds, clouds, http, place.url, lambda: _verdicts(worker), log)
                problems += await story.tell((API_FLOW, INTERNAL_FLOW), console)
            problems += _report(folder, story.told_s)
            for problem in problems:
                click.secho(f"wrong: {problem}", fg="red", err=True)
            if not once:
                words = {"url": url, "admin_url": admin_url, "region": clouds[REGION].origin, "log": log}
                click.echo(_AFTERWORD.format(**words, api_key=API_KEY, internal_key=INTERNAL_KEY))
                click.echo("Ctrl-C ends it.")
                await worker.run()
    return not problems


def _verdicts(worker: Worker) -> dict[str, str]:
    assembly = worker.assembly
    return {
        name: backend.verdict(assembly.loop.time()).state.value for name, backend in assembly.fleet.backends.items()
    }


def _report(folder: Path, since_s: float) -> list[str]:
    """Shows what the decision log adds up to since the story began, and verifies it, with an operator's commands."""
    log, anchors, public_key = folder / LOG, folder / ANCHORS, folder / f"{SIGNING_KEY}.pub"
    since = f"{math.ceil(since_s)}s"
    click.echo(f"\n$ inference-router report refusals --by cloud,reason --since {since} \\\n    --dir {log}")
    refusals.main(["--by", "cloud,reason", "--since", since, "--dir", str(log)], standalone_mode=False)
    click.echo(f"\n$ inference-router audit verify {log} \\\n    --anchors {anchors} \\\n    --public-key {public_key}")
    try:
        verify.main([str(log), "--anchors", str(anchors), "--public-key", str(public_key)], standalone_mode=False)
    except SystemExit as end:
        if end.code:
            return ["the decision log does not explain what was done: see above"]
    return []


@asynccontextmanager
async def _clouds() -> AsyncIterator[dict[str, WitnessingCloud]]:
    """All emulated endpoints of the file, started, by id."""
    names = {name: section["cloud"] for name, section in _document()["endpoints"].items()}
    async with AsyncExitStack() as stack:
        started = {}
        for endpoint in load_endpoints(CONFIG):
            cloud = WitnessingCloud(endpoint, names[endpoint.id])
            try:
                await cloud.start()
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise
                await cloud.start(port=0)
            stack.push_async_callback(cloud.close)
            started[endpoint.id] = cloud
        yield started


@asynccontextmanager
async def _router(
    folder: Path, clouds: Mapping[str, WitnessingCloud], port: int | None, admin_port: int | None
) -> AsyncIterator[Worker]:
    """The router over these clouds, with a configuration of its own in `folder`. Raises PortTakenError, OSError."""
    document = _document()
    usual = dict(document["server"])
    for name, cloud in clouds.items():
        document["endpoints"][name]["base_url"] = cloud.base_url
    new_key(folder / SIGNING_KEY)
    document["decision_log"] |= {"dir": LOG, "anchors": ANCHORS, "signing_key": SIGNING_KEY}
    file = folder / "demo.json"  # JSON is YAML
    for tries_left in (1, 0):
        listen = _address(usual["listen"], port, "--port")
        admin = _address(usual["admin"], admin_port, "--admin-port")
        document["server"] |= {"listen": listen, "admin": admin, "access_log": str(folder / "access.log")}
        file.write_bytes(orjson.dumps(document, option=orjson.OPT_INDENT_2))
        worker = Worker(file, {}, load(file, {}))
        try:
            await worker.start()
            break
        except OSError as error:
            # Another demo that starts now may have been faster: look again at what is free.
            if error.errno != errno.EADDRINUSE or not tries_left:
                raise
    try:
        yield worker
    finally:
        await worker.close()


def _document() -> dict[str, Any]:
    found: dict[str, Any] = YAML(typ="safe", pure=True).load(CONFIG)
    return found


def _address(default: str, wanted: int | None, option: str) -> str:
    """Where to listen: as asked for, else the file's port, else (0) any free one. Raises PortTakenError."""
    host, _, usual = default.rpartition(":")
    port = wanted or int(usual)
    if _is_free(host, port):
        return f"{host}:{port}"
    if wanted is not None:
        raise PortTakenError(f"port {port} is taken: name another one with {option}, or leave it out for any free one")
    click.echo(f"Port {port} is taken: a free one is used instead ({option} names one).")
    return f"{host}:0"


def _is_free(host: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
        return True
