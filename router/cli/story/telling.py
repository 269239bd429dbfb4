"""Tells the story: runs the script against the clouds, lets clients send, and shows what becomes of it."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from statistics import median
from typing import Final

import aiohttp
from rich.console import Console
from rich.live import Live

from router.cli.story.script import DEATH_AT, SCENES, STORY_S, Clouds
from router.cli.story.tally import Tally
from router.cli.story.traffic import Clients, Flow, Seen
from router.cli.story.view import FlowNow, Frame, History, Standing, clock, scene_at

MODEL: Final = "gpt-4o"
_FRAME_S: Final = 0.2
_WINDOW_S: Final = 2.0
_LOG_WAIT_S: Final = 5.0
Verdicts = Callable[[], Mapping[str, str]]


class Story:
    """Told once. `verdicts`: the router's own, by deployment; `log`: its access log."""

    def __init__(
        self, seconds: float, clouds: Clouds, http: aiohttp.ClientSession, url: str, verdicts: Verdicts, log: Path
    ) -> None:
        self._seconds, self._clouds, self._verdicts = seconds, clouds, verdicts
        self._clients = Clients(http, url)
        self._tally = Tally(log, _WINDOW_S)
        self._history = History()
        self._began = 0.0
        self._flows: Sequence[Flow] = ()

    async def tell(self, flows: Sequence[Flow], console: Console) -> list[str]:
        """Returns what went wrong and is not explained by the script; empty where nothing did."""
        self._flows = flows
        witnessed = {name: cloud.customers for name, cloud in self._clouds.items()}
        live = Live(console=console, auto_refresh=False) if console.is_terminal else None
        self._began = time.monotonic()
        with live or nullcontext():
            async with asyncio.TaskGroup() as group:
                for flow in flows:
                    group.create_task(self._clients.send(flow, self._began + self._seconds))
                group.create_task(self._act(console if live is None else None))
                group.create_task(self._watch(live))
        saw = {name: cloud.customers - witnessed[name] for name, cloud in self._clouds.items()}
        self._sum_up(console, saw)
        return list(self._wrong(saw))

    @property
    def told_s(self) -> float:
        """Seconds since it began."""
        return time.monotonic() - self._began

    @property
    def _at(self) -> float:
        """Story seconds."""
        return min(STORY_S, self.told_s / self._seconds * STORY_S)

    async def _act(self, plain: Console | None) -> None:
        """Lets each scene happen in its time; without a live view, says so in a line, and how the last one went."""
        for scene, end in zip(SCENES, [*(scene.at for scene in SCENES[1:]), STORY_S], strict=True):
            await self._sleep_until(scene.at)
            if plain is not None:
                plain.print(f"{clock(scene.at):>5}  {scene.words}", soft_wrap=True)
            await scene.act(self._clouds)
            await self._sleep_until(end)
            if plain is not None:
                self._look()
                plain.print(f"       {self._shares()}", soft_wrap=True)

    async def _sleep_until(self, at: float) -> None:
        await asyncio.sleep(self._began + at / STORY_S * self._seconds - time.monotonic())

    async def _watch(self, live: Live | None) -> None:
        """Until every request has ended and its line is in the log, which is written in batches."""
        over_at = self._began + self._seconds
        while (now := time.monotonic()) < over_at or (
            self._tally.requests < self._clients.sent and now < over_at + _LOG_WAIT_S
        ):
            await asyncio.sleep(_FRAME_S)
            self._look()
            if live is not None:
                live.update(self._frame(), refresh=True)

    def _look(self) -> None:
        for record in self._tally.read(time.monotonic()):
            self._history.add(record["workload"], record.get("cloud", ""), self._at)

    def _frame(self) -> Frame:
        at, since = self._at, time.monotonic() - _WINDOW_S
        return Frame(
            at,
            scene_at(at),
            list(self._standings()),
            [self._flow_now(flow, since) for flow in self._flows],
            self._tally.lately(),
            self._history,
            self._tally.word,
            over=at >= STORY_S,
        )

    def _standings(self) -> Iterator[Standing]:
        verdicts = self._verdicts()
        for cloud in self._clouds.values():
            for deployment in cloud.serving(MODEL):
                yield Standing(deployment, cloud.cloud, verdicts[deployment])

    def _flow_now(self, flow: Flow, since: float) -> FlowNow:
        mine = [seen for seen in self._clients.seen if seen.workload == flow.workload]
        lately = [seen.first_byte_s for seen in mine if seen.ended_at >= since and seen.first_byte_s]
        problems = sum(bool(seen.problem) for seen in mine)
        return FlowNow(flow.workload, len(lately) / _WINDOW_S, median(lately) if lately else 0.0, problems)

    def _shares(self) -> str:
        """Who served lately, by workload."""
        lately = self._tally.lately()
        parts = []
        for flow in self._flows:
            counts: Counter[str] = Counter()
            for deployment, served in lately.served.get(flow.workload, Counter()).items():
                counts[self._clouds[deployment.partition("/")[0]].cloud] += served
            shares = ", ".join(f"{cloud} {each / counts.total():.0%}" for cloud, each in counts.most_common())
            parts.append(f"{flow.workload}: {shares or 'nothing'}")
        return "; ".join(parts)

    def _sum_up(self, console: Console, saw: dict[str, int]) -> None:
        lines = [""]
        for flow in self._flows:
            counts = self._tally.clouds.get(flow.workload, Counter())
            served = ", ".join(f"{cloud} {each}" for cloud, each in counts.most_common())
            bad = [seen for seen in self._clients.seen if seen.problem and seen.workload == flow.workload]
            cut = sum(map(self._is_explained, bad))
            lines.append(f"{flow.workload}: {counts.total()} requests, served by {served}; {len(bad) - cut} errors")
            if cut:
                lines[-1] += f", and {cut} that the region took with it, as their clients could see"
        witnesses = ", ".join(f"{name} {count}" for name, count in saw.items())
        lines.append(f"Customers' requests (api), as the clouds themselves counted them: {witnesses}.")
        for line in lines:
            console.print(line, soft_wrap=not console.is_terminal)

    def _wrong(self, saw: dict[str, int]) -> Iterator[str]:
        for name, count in saw.items():
            if count and self._clouds[name].cloud != "azure":
                yield f"{name} saw {count} requests of a key that may use azure only"
        yield from self._tally.strays
        if self._tally.requests != self._clients.sent:
            yield f"the access log has {self._tally.requests} of {self._clients.sent} requests"
        for seen in self._clients.seen:
            if seen.problem and not self._is_explained(seen):
                at = (seen.sent_at - self._began) / self._seconds * STORY_S
                yield f"a request of {seen.workload} at {clock(at)} ({scene_at(at).name}): {seen.problem}"

    def _is_explained(self, seen: Seen) -> bool:
        """A stream that ran while its region died cannot become whole, and its client is told so."""
        died_at = self._began + DEATH_AT / STORY_S * self._seconds
        return seen.cut and seen.sent_at <= died_at <= seen.ended_at
