"""A real Prometheus watches a real router through a bit of everything: with the rules that operators load, and asked
every question of every dashboard."""

import asyncio
import math
import os
import re
import shutil
from asyncio.subprocess import DEVNULL
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from time import time
from typing import Any, Final

import aiohttp
import orjson
import pytest

from router.emulator import Distribution, EmulatedCloud, Settings
from router.emulator.settings import Deployment
from router.telemetry.names import METRICS, Kind
from tests.adversity.client import Ask, ask, chat, sent
from tests.adversity.collector import collector
from tests.promql_kit import ALERTS, RECORDED, ROOT, RULES, read_yaml
from tests.router_kit import API_KEY, INTERNAL_KEY, Cloud, RunningRouter, held, router

Json = dict[str, Any]
DASHBOARDS: Final = sorted((ROOT / "config" / "grafana" / "dashboards").glob("*.json"))

# What has nothing to show here. That their metrics and labels exist is checked against the table, in tests/unit.
NOTHING_TO_SHOW: Final = {
    "Pages": "nothing that gets anybody up has happened",
    "TLS, p99": "loopback is dialled without TLS",
    **dict.fromkeys(("Routers without Redis", "Redis", "Calls", "The last call took"), "one router shares no limits"),
}
# One refuses, one would, and two are far from it.
LIMITS: Final = {
    "text-embedding-3-small": {"limits": {"rpm": 60, "burst_share": 1 / 60}},
    "gpt-4o": {
        "limits": {"rpm": 60, "burst_share": 1 / 60, "shadow": ["rpm"], "concurrent": 1000},
        "budget": {"day_usd": 1000},
    },
}
SPANS: Final = {"$__rate_interval": "1m", "$__range": "5m"}


@dataclass
class Prometheus:
    """A running one, by its HTTP API."""

    url: str
    session: aiohttp.ClientSession

    async def get(self, path: str, **parameters: str) -> Any:
        """The `data` of an answer. Raises AssertionError with what Prometheus says is wrong."""
        async with self.session.get(f"{self.url}/api/v1/{path}", params=parameters) as answer:
            told = await answer.json()
        assert told["status"] == "success", f"{parameters}: {told.get('error')}"
        assert not told.get("warnings"), told
        return told["data"]

    async def query(self, expr: str) -> list[Json]:
        found: list[Json] = (await self.get("query", query=expr))["result"]
        return found

    async def scrapes(self) -> float:
        """How many scrapes of the router there are so far."""
        return sum(float(result["value"][1]) for result in await self.query("count_over_time(up[1h])"))

    async def scraped_again(self) -> None:
        """Two scrapes later: the first of them may have begun before the call."""
        seen = await self.scrapes()
        async with asyncio.timeout(30):
            while await self.scrapes() < seen + 2:
                await asyncio.sleep(0.1)


@pytest.fixture(autouse=True)
def _prometheus_is_here() -> None:
    """Skips with the reason; in CI that is a failure."""
    if shutil.which("prometheus") is None:
        if os.environ.get("CI"):
            pytest.fail("there is no `prometheus`, and in CI this test must run")
        pytest.skip("there is no `prometheus`")


@asynccontextmanager
async def prometheus(folder: Path, target: str) -> AsyncIterator[Prometheus]:
    """Runs with the project's configuration, but for the target's address and the pace: once a second."""
    config = read_yaml(RULES / "prometheus.yml")
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    config["rule_files"] = [str(RULES / file) for file in config["rule_files"]]
    config["scrape_configs"][0]["static_configs"] = [{"targets": [target]}]
    (folder / "prometheus.json").write_bytes(orjson.dumps(config))  # JSON is YAML
    command = ("prometheus", f"--config.file={folder}/prometheus.json", f"--storage.tsdb.path={folder}/data")
    options = ("--web.listen-address=127.0.0.1:0", "--enable-feature=exemplar-storage")
    log = folder / "log"
    with log.open("wb") as said:
        process = await asyncio.create_subprocess_exec(*command, *options, stdin=DEVNULL, stdout=said, stderr=said)
    try:
        async with asyncio.timeout(30):
            while (found := re.search(r'"Listening on" address=(\S+)', log.read_text())) is None:
                assert process.returncode is None, log.read_text()
                await asyncio.sleep(0.02)
        async with aiohttp.ClientSession() as session:
            yield Prometheus(f"http://{found[1]}", session)
        complaints = [line for line in log.read_text().splitlines() if re.search("level=(warn|error)", line)]
        assert not complaints
    finally:
        process.terminate()
        await process.wait()


class Limited(Cloud):
    """A cloud that counts against its quota, and says what is left."""

    def emulated(self) -> EmulatedCloud:
        cloud = super().emulated()
        deployments = tuple(Deployment(name, model, tpm=600_000, rpm=6_000) for name, model in self.deployments.items())
        return EmulatedCloud(replace(cloud.endpoint, deployments=deployments))


def clouds() -> list[Cloud]:
    models = {"chat": "gpt-4o", "embed": "text-embedding-3-small"}
    settings = Settings(quota=True, token_gap_ms=Distribution(2.0), head_ms=Distribution(5.0))
    quota = {"tpm": 600_000, "rpm": 6_000, "price": {"prompt_usd_per_mtok": 2.5, "completion_usd_per_mtok": 10.0}}
    return [
        Limited("azure-east", deployments=models, settings=settings, deployment_extra=quota),
        Cloud("narrow", deployments={"alone": "gpt-4o-mini"}, settings=settings, deployment_extra={"concurrent": 1}),
        Cloud("cw", "coreweave", "openai", settings=settings),
    ]


TRACE: Final = "0af7651916cd43dd8448eb211c80319c"


async def a_bit_of_everything(r: RunningRouter) -> None:
    """Requests that are answered, cut, refused, limited, retried elsewhere, queued, hung up on, and not allowed."""
    embed = Ask("/v1/embeddings", orjson.dumps({"model": "text-embedding-3-small", "input": "hello"}))
    traced = replace(chat(stream=True), headers=(("traceparent", f"00-{TRACE}-b7ad6b7169203331-01"),))
    azure = r.clouds["azure-east"].faults
    for key in (API_KEY, INTERNAL_KEY):
        assert (await ask(r, chat(key=key))).status == 200
        assert (await ask(r, chat(key=key, stream=True))).complete
    embedded = await asyncio.gather(ask(r, embed), ask(r, embed))
    assert sorted(reply.status for reply in embedded) == [200, 429]
    assert (await ask(r, traced)).complete
    assert (await ask(r, chat(key="sk-ir-nobody"))).status == 401
    assert (await ask(r, chat(model="unheard-of"))).status == 404
    azure.add("error_event", after_events=4, times=1)
    assert (await ask(r, chat(stream=True))).told_error
    azure.add("status", status=500, times=1)
    assert (await ask(r, chat(key=INTERNAL_KEY))).status == 200  # the holder has failed: another cloud serves
    async with sent(r, chat(stream=True)) as call:
        await call.some(b"data: ")
    queued = await asyncio.gather(*(ask(r, chat(model="gpt-4o-mini")) for _ in range(3)))
    assert {reply.status for reply in queued} == {200}


async def reloads(r: RunningRouter) -> None:
    """One that changes nothing, and one that is refused."""
    good = r.file.read_bytes()
    await r.worker.reload()
    r.file.write_bytes(good + b"}")
    await r.worker.reload()
    r.file.write_bytes(good)


async def assert_that_the_router_is_read(p: Prometheus) -> None:
    """Up, and each metric is of the kind and unit that the table says."""
    (target,) = (await p.get("targets"))["activeTargets"]
    assert (target["health"], target["lastError"]) == ("up", "")
    told = {each["metric"]: each for each in await p.get("targets/metadata", match_target='{job="inference-router"}')}
    for metric in METRICS:
        family = metric.name.removesuffix("_total" if metric.kind is Kind.COUNTER else "_info")
        assert (told[family]["type"], told[family]["unit"]) == (metric.kind.value, metric.unit), family
        assert told[family]["help"] == metric.help


async def assert_that_slow_buckets_lead_to_traces(p: Prometheus) -> None:
    hour = {"start": str(time() - 3600), "end": str(time() + 60)}
    for metric in ("router_first_byte_seconds_bucket", "router_first_token_seconds_bucket"):
        found = await p.get("query_exemplars", query=metric, **hour)
        traces = {exemplar["labels"]["trace_id"] for series in found for exemplar in series["exemplars"]}
        assert traces == {TRACE}, metric


async def evaluated(p: Prometheus) -> dict[str, Json]:
    """All rules, once they have seen the reload that was refused."""
    async with asyncio.timeout(30):
        while True:
            groups = (await p.get("rules"))["groups"]
            rules = {rule["name"]: rule for group in groups for rule in group["rules"]}
            if rules["RouterReloadRefused"]["state"] == "firing":
                return rules
            await asyncio.sleep(0.1)


async def assert_that_the_rules_are_well(p: Prometheus) -> None:
    rules = await evaluated(p)
    assert rules.keys() == {*ALERTS, *RECORDED}
    assert not {name: rule for name, rule in rules.items() if rule["health"] != "ok" or rule.get("lastError")}
    empty = [name for name in RECORDED if not await p.query(name)]
    assert not empty
    firing = {name for name, rule in rules.items() if rule.get("state") == "firing"}
    assert firing == {"RouterReloadRefused"}, "one reload was refused, and nothing else here is an operator's business"


def chosen(expr: str) -> str:
    """What Grafana makes of an expression when all is chosen above the panels."""
    for name, span in SPANS.items():
        expr = expr.replace(name, span)
    return re.sub(r"\$\w+", ".*", expr)


async def unanswered(p: Prometheus, dashboard: Json) -> AsyncIterator[str]:
    """The questions of a dashboard that have no answer, or not one for each name in a legend."""
    for annotation in dashboard["annotations"]["list"]:
        if not await p.query(chosen(annotation["target"]["expr"])):
            yield annotation["name"]
    for panel in dashboard["panels"]:
        for target in panel.get("targets", ()):
            series = await p.query(chosen(target["expr"]))
            if not any(math.isfinite(float(each["value"][1])) for each in series):
                yield panel["title"]
            names = re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])
            nameless = [each["metric"] for each in series if not each["metric"].keys() >= set(names)]
            assert not nameless, panel["title"]
    for variable in dashboard["templating"]["list"][1:]:
        asked = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"]["query"])
        assert asked is not None
        if not await p.get(f"label/{asked[2]}/values", **{"match[]": chosen(asked[1])}):
            yield f"${variable['name']}"


async def test_prometheus_reads_the_router_and_every_question_of_the_dashboards_has_its_answer(tmp_path: Path) -> None:
    workloads = held(max_wait_ms=3000)
    workloads["api"]["max_wait_ms"] = 3000
    async with (
        collector() as traces,  # a bucket leads to a trace only where its spans were sent
        router(
            *clouds(),
            workloads=workloads,
            tracing=traces.section(sample=0, respect_parent=["api"]),
            models=LIMITS,
            ledger={"dir": str(tmp_path / "ledger")},
        ) as r,
        prometheus(tmp_path, r.admin_url.removeprefix("http://")) as p,
    ):
        await a_bit_of_everything(r)
        await p.scraped_again()  # from here on all series are known, so that what is counted now is a rate
        await a_bit_of_everything(r)
        await reloads(r)
        await p.scraped_again()

        await assert_that_the_router_is_read(p)
        await assert_that_slow_buckets_lead_to_traces(p)
        await assert_that_the_rules_are_well(p)
        open_questions = [
            question for file in DASHBOARDS async for question in unanswered(p, orjson.loads(file.read_bytes()))
        ]
    assert set(open_questions) == set(NOTHING_TO_SHOW)
