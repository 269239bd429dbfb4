"""`python -m loadtests.capacity`: how many routers for so many streams and requests."""

from typing import Final

import click

from loadtests.capacity.costs import measured
from loadtests.capacity.plan import Load, Plan, Router, plan

USUAL: Final = Router()
SIZES: Final = (1_000, 10_000, 100_000, 1_000_000)
HEAD: Final = (
    "| streams | requests/s | routers | by CPU, chunks alone | chunks together | memory | files | ports | first | "
    "of a store's rate |\n|---|---|---|---|---|---|---|---|---|---|"
)


def line(load: Load, found: Plan) -> str:
    """A row of the table, in Markdown."""
    asked = (found.routers, found.cpu_cold, found.cpu_warm, found.memory, found.files, found.ports)
    numbers = " | ".join(f"{number:,}" for number in asked)
    return f"| {load.streams:,} | {load.requests_per_s:,.0f} | {numbers} | {found.first} | {found.store_used:.2f} |"


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.option("--streams", type=click.IntRange(min=0), multiple=True, default=SIZES, help="Open at one time.")
@click.option("--chunks-per-s", default=20.0, type=click.FloatRange(min=0), help="Of each stream.")
@click.option("--stream-s", default=20.0, type=click.FloatRange(min=0.1), help="How long a stream lives.")
@click.option("--rps", default=0.0, type=click.FloatRange(min=0), help="Requests beside the streams' own.")
@click.option("--cores", default=USUAL.cores, type=click.IntRange(min=1), help="Workers of a router.")
@click.option("--memory-mib", default=USUAL.memory_mib, type=click.IntRange(min=4096), help="Of a router.")
@click.option("--used", default=USUAL.used, type=click.FloatRange(0.05, 1.0), help="Of a core.")
@click.option("--addresses", default=USUAL.addresses, type=click.IntRange(min=1), help="Of upstreams.")
@click.option("--tls/--no-tls", default=True, help="To the upstreams.")
def main(
    streams: tuple[int, ...],
    chunks_per_s: float,
    stream_s: float,
    rps: float,
    cores: int,
    memory_mib: int,
    used: float,
    addresses: int,
    tls: bool,
) -> None:
    """Reckons with the newest result of each mode in loadtests/results/; nothing is measured now."""
    costs = measured()
    router = Router(cores=cores, memory_mib=memory_mib, used=used, addresses=addresses, tls=tls)
    click.echo(
        f"a request {costs.tls_request_us if tls else costs.request_us:.1f} µs, a chunk {costs.cold_chunk_us:.1f} µs "
        f"alone and {costs.warm_chunk_us:.1f} µs together, a stream {costs.stream_kib:.1f} KiB, "
        f"{costs.stored_per_s:,.0f} requests/s into a store\n(from {', '.join(costs.files)})\n\n{HEAD}"
    )
    for count in streams:
        load = Load(count, chunks_per_s, rps + count / stream_s)
        click.echo(line(load, plan(load, router, costs)))


if __name__ == "__main__":
    main()
