"""`inference-router emulate`: fake clouds on loopback, from a router file or one plain server to measure against."""

import asyncio
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import click

from router.base.loops import heed, run_loop
from router.emulator import Emulator, EmulatorConfigError, load_endpoints
from router.emulator.cloud import tls_context
from router.emulator.plain import PlainServer, PlainSettings
from router.transport.sockets import raise_open_files


@click.command()
@click.option("--config", type=click.Path(path_type=Path), help="Router file: endpoints with `emulated: true` start.")
@click.option("--plain", type=click.IntRange(0, 65535), help="Start one server with a fixed answer on this port.")
@click.option("--answer-bytes", default=600, show_default=True, help="Plain: size of the JSON answer.")
@click.option("--stream-events", default=50, show_default=True, help="Plain: deltas of a stream.")
@click.option("--gap-ms", default=0.0, show_default=True, help="Plain: time between events.")
@click.option("--first-at-once", is_flag=True, help="Plain: the first event does not wait for the gap.")
@click.option("--tls-cert", type=click.Path(), help="Plain: certificate (PEM), for TLS.")
@click.option("--tls-key", type=click.Path(), help="Plain: its key (PEM).")
def emulate(
    config: Path | None,
    plain: int | None,
    answer_bytes: int,
    stream_events: int,
    gap_ms: float,
    first_at_once: bool,
    tls_cert: str | None,
    tls_key: str | None,
) -> None:
    """Run fake clouds with scripted faults, for demos, tests and measurements. Ends on SIGTERM or Ctrl-C."""
    if (config is None) == (plain is None):
        raise click.UsageError("say either --config FILE or --plain PORT")
    work: Coroutine[Any, Any, None]
    if config is not None:
        work = _serve_clouds(config)
    else:
        settings = PlainSettings(answer_bytes, stream_events, gap_ms, first_at_once)
        work = _serve_plain(plain or 0, settings, tls_cert, tls_key)
    raise_open_files()
    try:
        run_loop(work)
    except (EmulatorConfigError, OSError, ValueError) as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(1)


async def _serve_clouds(config: Path) -> None:
    async with Emulator(load_endpoints(config)) as emulator:
        for cloud in emulator.clouds.values():
            names = ", ".join(deployment.name for deployment in cloud.endpoint.deployments)
            click.echo(f"{cloud.endpoint.id}  {cloud.endpoint.dialect}  {cloud.base_url}  {names}")
        await _until_signal()


async def _serve_plain(port: int, settings: PlainSettings, cert: str | None, key: str | None) -> None:
    tls = tls_context(cert, key) if cert or key else None
    server = await PlainServer(settings).listen("127.0.0.1", port, tls)
    bound = server.sockets[0].getsockname()[1]
    click.echo(f"plain  openai  {'https' if tls else 'http'}://127.0.0.1:{bound}")
    await _until_signal()
    server.close()


async def _until_signal() -> None:
    """Says that all listen, then waits for SIGTERM or SIGINT."""
    asked = asyncio.Event()
    for name in ("SIGTERM", "SIGINT"):
        heed(name, asked.set)
    click.echo("ready")
    await asked.wait()


if __name__ == "__main__":
    emulate()
