"""`check --against`, `--replay` and `reload` as an operator calls them, beside a router that serves."""

import asyncio
from typing import Any

import orjson
from click.testing import CliRunner, Result

from router.cli import main
from tests.adversity.client import ask, chat
from tests.router_kit import DECISIONS, Cloud, RunningRouter, router


async def call(*words: str) -> Result:
    return await asyncio.to_thread(CliRunner().invoke, main, words)


async def stored(r: RunningRouter, requests: int) -> None:
    async with asyncio.timeout(10):
        while await r.metric("router_ledger_stored_total") < requests:
            await asyncio.sleep(0.05)


async def test_a_file_is_compared_tried_and_put_in_force() -> None:
    clouds = Cloud("first"), Cloud("cw", "coreweave", "openai")
    async with router(*clouds, ledger={"dir": "ledger"}) as r:
        for _ in range(5):
            assert (await ask(r, chat())).status == 200
        await stored(r, 5)
        old, new = r.file.with_name("old.yaml"), orjson.loads(r.file.read_bytes())
        old.write_bytes(r.file.read_bytes())
        assert (await call("check", str(r.file), "--against", str(old))).exit_code == 0
        new["workloads"]["api"]["placement"]["cloud"] = "coreweave"
        for endpoint in new["endpoints"].values():
            endpoint["deployments"][0]["price"] = {"prompt_usd_per_mtok": 1, "completion_usd_per_mtok": 2}
        r.file.write_bytes(orjson.dumps(new))

        words = ("check", str(r.file), "--against", str(old), "--replay", str(r.file.parent / DECISIONS))
        compared = await call(*words)
        assert compared.exit_code == 4
        assert "EXCLUSIVITY: traffic of api may go ELSEWHERE than now" in compared.stdout
        assert "5 requests of exclusive traffic would go to another cloud" in compared.stdout
        assert max(map(len, compared.stdout.splitlines())) <= 100
        found: dict[str, Any] = orjson.loads((await call(*words, "--json")).stdout)["replay"]
        assert found["moves"] == [{"workload": "api", "before": "azure", "after": "coreweave", "requests": 5}]
        assert (found["known"], found["estimated"], found["unpriced"]) == (5, 0, 0)
        assert sum(row["after_nano_usd"] for row in found["rows"] if row["cloud"] == "coreweave") > 0

        done = await call("reload", "--admin", r.admin_url)
        assert (done.exit_code, done.stderr) == (0, "")
        assert "is in force" in done.stdout
        assert "EXCLUSIVITY" in done.stdout


async def test_why_one_is_refused_is_told_by_the_exit_status() -> None:
    async with router(Cloud("first")) as r:
        good = orjson.loads(r.file.read_bytes())
        r.file.write_bytes(orjson.dumps({**good, "nonsense": 1}))
        refused = await call("reload", "--admin", r.admin_url)
        assert refused.exit_code == 3
        assert "nonsense: is not a known key" in refused.stderr
        assert "stays in force" in refused.stderr
        assert (await call("check", str(r.file), "--against", str(r.file))).exit_code == 1

        good["server"]["listen"] = "127.0.0.1:1"
        r.file.write_bytes(orjson.dumps(good))
        assert (await call("reload", "--admin", r.admin_url)).exit_code == 4
        told = await call("reload", "--admin", r.admin_url, "--json")
        assert orjson.loads(told.stdout)["error"]["reason"] == "restart"

    assert (await call("reload", "--admin", r.admin_url)).exit_code == 1, "nobody is there any more"
    assert (await call("check", "x.yaml", "--replay", ".")).exit_code == 2


async def test_other_workers_change_their_number_and_nothing_that_they_divide() -> None:
    async with router(Cloud("first"), server={"workers": 1}) as r:
        config = orjson.loads(r.file.read_bytes())
        config["server"]["workers"] = 3
        more = r.file.with_name("more.yaml")
        more.write_bytes(orjson.dumps(config))
        told = orjson.loads((await call("check", str(more), "--against", str(r.file), "--json")).stdout)
        assert told["changed"]["restart"] == ["server.workers"]
        (changed,) = told["changed"]["changes"]
        assert changed["fields"] == [{"name": "workers", "before": "1", "after": "3"}]
