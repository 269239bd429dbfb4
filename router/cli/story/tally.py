"""What the access log says, added up as it grows: who served, who refused and how long first bytes took."""

from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Final

import orjson

_SERVED: Final = "served"


@dataclass(frozen=True, slots=True)
class Lately:
    """Of the requests that ended within the tally's window."""

    requests: Counter[str]  # by workload
    served: Mapping[str, Counter[str]]  # by workload, by deployment
    first_byte_ms: Mapping[str, float]  # by deployment: the median of what it served
    refused: Mapping[str, Counter[str]]  # by deployment, by reason


class Tally:
    """Follows one file. All counts are of `workloads` alone."""

    def __init__(self, log: Path, window_s: float) -> None:
        self.clouds: dict[str, Counter[str]] = {}  # by workload: requests by the cloud that served
        self.requests = 0
        self.strays: list[str] = []  # attempts of exclusive requests elsewhere, in words
        self.left = 0  # requests that went on after the holder had refused
        self.word = ""  # the router's last word about a deployment
        self._log, self._window_s = log, window_s
        self._offset = log.stat().st_size
        self._recent: deque[tuple[float, Mapping[str, Any]]] = deque()

    def read(self, now: float) -> list[Mapping[str, Any]]:
        """Takes what was written since the last call; returns the requests in it. `now`: any steady seconds."""
        with self._log.open("rb") as file:
            file.seek(self._offset)
            whole, _, _ = file.read().rpartition(b"\n")
        self._offset += len(whole) + 1 if whole else 0
        found = []
        for line in whole.split(b"\n") if whole else ():
            record = orjson.loads(line)
            if "event" in record:
                self.word = _in_words(record) or self.word
            elif record.get("workload"):
                self._count(record)
                self._recent.append((now, record))
                found.append(record)
        while self._recent and self._recent[0][0] < now - self._window_s:
            self._recent.popleft()
        return found

    def lately(self) -> Lately:
        requests: Counter[str] = Counter()
        served: dict[str, Counter[str]] = {}
        times: dict[str, list[float]] = {}
        refused: dict[str, Counter[str]] = {}
        for _, record in self._recent:
            requests[record["workload"]] += 1
            for attempt in record.get("attempts", ()):
                if attempt["outcome"] == _SERVED:
                    served.setdefault(record["workload"], Counter())[attempt["deployment"]] += 1
                    times.setdefault(attempt["deployment"], []).append(attempt.get("first_byte_ms", 0.0))
            for deployment, _, reason in record.get("refusals", ()):
                refused.setdefault(deployment, Counter())[reason] += 1
        return Lately(requests, served, {name: median(each) for name, each in times.items()}, refused)

    def _count(self, record: Mapping[str, Any]) -> None:
        self.requests += 1
        self.left += bool(record.get("left_holder"))
        workload = record["workload"]
        self.clouds.setdefault(workload, Counter())[record.get("cloud") or "nobody"] += 1
        own = record.get("plan", "").partition("exclusive:")[2]
        foreign = {attempt["cloud"] for attempt in record.get("attempts", ())} - {own}
        if own and foreign:
            self.strays.append(f"request {record['id']} of {workload} was sent to {', '.join(sorted(foreign))}")


def _in_words(event: Mapping[str, Any]) -> str:
    """What an operator would want to hear of; empty for the rest."""
    match event["event"], event.get("change"):
        case "cooldown", _:
            return f"{event['deployment']} is left alone for {event['wait_s']:.1f} s: {event['reason']}"
        case "health", "ejected":
            return f"{event['deployment']} is taken out: {event['reason']}"
        case "health", "probing":
            return f"{event['deployment']} is asked again, by one request at a time"
        case "health", _:
            return f"{event['deployment']} is taken out: {event['reason']}, {event['change']}"
    return ""
