"""The calculator of capacity: what more load must mean, and that the page says what it reckons."""

from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from loadtests.capacity.__main__ import SIZES, USUAL, line, main
from loadtests.capacity.costs import Costs, measured
from loadtests.capacity.plan import Load, Router, plan

COSTS = Costs(80.0, 100.0, 40.0, 10.0, 16.0, 20_000.0, ())
PAGE = Path(__file__).parents[3] / "docs" / "capacity.md"
STREAM_S = 20.0

loads = st.builds(Load, st.integers(0, 2_000_000), st.floats(0, 100), st.floats(0, 1e6))


def test_cpu_is_that_of_requests_and_chunks() -> None:
    found = plan(Load(1_000, 20.0, 1_000.0), Router(cores=1, used=0.5), COSTS)

    assert found.cpu_cold == 2  # 0.1 s of requests and 0.8 s of chunks in each second, half a core each
    assert found.cpu_warm == 1


def test_a_stream_has_two_files_and_a_port() -> None:
    found = plan(Load(2_097_152, 0.0, 0.0), Router(cores=1, addresses=1), COSTS)

    assert found.files == 4
    assert found.ports == 75  # of 28,232 each
    assert found.first == "ports"


def test_what_is_spare_holds_no_streams() -> None:
    router = Router(memory_mib=3 * 1024, spare_mib=2 * 1024)

    assert plan(Load(3 * 65_536, 0.0, 0.0), router, COSTS).memory == 3  # of 16 KiB each, in a GiB


@given(loads, st.integers(1, 10), st.floats(0, 1e5))
def test_more_load_never_needs_fewer(load: Load, times: int, more: float) -> None:
    small, large = (
        plan(each, USUAL, COSTS)
        for each in (load, replace(load, streams=load.streams * times, requests_per_s=load.requests_per_s + more))
    )

    assert large.routers >= small.routers
    assert large.store_used >= small.store_used


@given(loads)
def test_what_comes_first_is_what_decides(load: Load) -> None:
    found = plan(load, USUAL, COSTS)

    by_name = {"CPU": found.cpu_cold, "memory": found.memory, "files": found.files, "ports": found.ports}
    assert by_name[found.first] == found.routers


def test_costs_are_of_the_newest_result(tmp_path: Path) -> None:
    def write(name: str, value: float, *modes: str) -> None:
        entries = ",".join(f'{{"name":"{mode}","median":{{"router":{{"median":{value}}}}}}}' for mode in modes)
        (tmp_path / name).write_text(f'{{"modes":[{entries}]}}')

    write("all-2031-01-01-000000.json", 1.0, "json-1k", "tls-json-1k", "stream-paced", "stream-50", "streams-5000")
    write("added-2031-01-02-000000.json", 2.0, "stream-50")
    (tmp_path / "ledger-2031-01-01-000001.json").write_text(
        '{"databases":[{"database":"a","again":{"requests_per_s":5}},{"database":"b","again":{"requests_per_s":4}}]}'
    )

    costs = measured(tmp_path)

    assert (costs.request_us, costs.warm_chunk_us, costs.stored_per_s) == (1.0, 2.0, 4.0)
    with pytest.raises(LookupError, match="stream-paced"):
        measured(tmp_path, ["added-2031-01-02-000000.json"])


def test_the_committed_results_will_do() -> None:
    ended = CliRunner().invoke(main, ["--streams", "1000000", "--stream-s", "30"])

    assert ended.exit_code == 0
    assert ended.output.rstrip().splitlines()[-1].startswith("| 1,000,000 | 33,333 | ")


def test_the_page_says_what_is_reckoned() -> None:
    """With the results that it names: a later measurement makes a later page, and not a wrong one."""
    page = PAGE.read_text()
    files = [word for word in page.split("`") if word.endswith(".json") and "*" not in word]
    costs = measured(only=files)

    for size in SIZES:
        load = Load(size, 20.0, size / STREAM_S)
        assert line(load, plan(load, USUAL, costs)) in page
