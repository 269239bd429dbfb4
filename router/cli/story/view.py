"""What the audience sees: one frame of the story, at most 80 columns wide and 23 lines high."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

from router.cli.story.script import SCENES, STORY_S, Scene
from router.cli.story.tally import Lately

WIDTH: Final = 80
_CHART_WIDTH: Final = 38
_CHART_HEIGHT: Final = 5
_BAR_WIDTH: Final = 9
# Each cloud has its colour, and its shade where there are no colours.
_CLOUDS: Final[Mapping[str, tuple[str, str]]] = {
    "azure": ("█", "dodger_blue1"),
    "coreweave": ("▓", "magenta"),
    "oracle": ("▒", "red"),
    "softbank": ("░", "yellow"),
}
_VERDICTS: Final = {"up": "green", "degraded": "yellow", "throttled": "yellow", "probing": "cyan", "ejected": "red"}

_LEGEND: Final = Text.assemble(
    ("p50: of first bytes.  Served by: ", "dim"),
    *((f" {shade}{shade} {cloud} ", color) for cloud, (shade, color) in _CLOUDS.items()),
)


@dataclass(frozen=True, slots=True)
class Standing:
    """A deployment, and how the router judges it."""

    id: str
    cloud: str
    state: str


@dataclass(frozen=True, slots=True)
class FlowNow:
    """A workload's clients in the last moments."""

    workload: str
    rate: float  # requests a second
    first_byte_s: float  # the median; 0: none came
    problems: int  # since the beginning


class History:
    """By which cloud each moment's requests were served, for a chart with a column each."""

    def __init__(self) -> None:
        self._columns: dict[str, list[Counter[str]]] = {}

    def add(self, workload: str, cloud: str, at: float) -> None:
        """`at`: story seconds."""
        columns = self._columns.setdefault(workload, [Counter() for _ in range(_CHART_WIDTH)])
        columns[min(_CHART_WIDTH - 1, int(at / STORY_S * _CHART_WIDTH))][cloud] += 1

    def chart(self, workload: str) -> list[Text]:
        """Lines from the top: each column is one moment, filled in proportion from the bottom up."""
        stacks = [_stack(column) for column in self._columns.get(workload, [Counter()] * _CHART_WIDTH)]
        lines = []
        for row in reversed(range(_CHART_HEIGHT)):
            line = Text()
            for stack in stacks:
                line.append(*_CLOUDS.get(stack[row], (" ", "")))
            lines.append(line)
        return lines


def _stack(column: Counter[str]) -> list[str]:
    """The clouds of a column's cells, by largest remainder, so that a small share shows and the sum is right."""
    total = sum(column.values())
    if not total:
        return [""] * _CHART_HEIGHT
    exact = {cloud: column[cloud] * _CHART_HEIGHT / total for cloud in column}
    cells = {cloud: int(share) for cloud, share in exact.items()}
    for cloud in sorted(exact, key=lambda each: cells[each] - exact[each])[: _CHART_HEIGHT - sum(cells.values())]:
        cells[cloud] += 1
    order = [*_CLOUDS, *sorted(column.keys() - _CLOUDS.keys())]
    return [cloud for cloud in order for _ in range(cells.get(cloud, 0))]


@dataclass(frozen=True, slots=True)
class Frame:
    """Everything that is shown at one moment. `at`: story seconds. `over`: the story is told."""

    at: float
    scene: Scene
    standings: Sequence[Standing]
    flows: Sequence[FlowNow]
    lately: Lately
    history: History
    word: str
    over: bool = False

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield from self._header()
        yield Text()
        yield self._deployments()
        yield Text()
        yield from self._charts()
        yield _LEGEND
        yield Text(f"router: {self.word}"[: WIDTH - 1] if self.word else "", "dim")

    def _header(self) -> Iterator[Text]:
        done = int(self.at / STORY_S * (WIDTH - 16))
        bar = Text.assemble((f"{clock(self.at)} of {clock(STORY_S)}  ", "bold"), ("━" * done, "green"))
        yield bar.append("━" * (WIDTH - 16 - done), "grey37")
        yield Text("Ten minutes are told." if self.over else self.scene.words, "bold")

    def _deployments(self) -> Table:
        table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="dim", width=WIDTH)
        table.add_column("deployment", no_wrap=True, width=28)
        table.add_column("verdict", no_wrap=True, width=9)
        for flow in self.flows:
            table.add_column(flow.workload, no_wrap=True, width=_BAR_WIDTH)
        table.add_column("p50 ms", justify="right", no_wrap=True, width=6)
        table.add_column("refuses", no_wrap=True)
        for each in self.standings:
            color = _CLOUDS.get(each.cloud, ("", ""))[1]
            first_byte_ms = self.lately.first_byte_ms.get(each.id)
            table.add_row(
                Text(each.id, color),
                Text(each.state, _VERDICTS.get(each.state, "dim")),
                *(_share(self.lately.served.get(flow.workload, Counter()), each.id, color) for flow in self.flows),
                f"{first_byte_ms:.0f}" if first_byte_ms is not None else "–",
                _most(self.lately.refused.get(each.id)),
            )
        return table

    def _charts(self) -> Iterator[Text]:
        gap = " " * (WIDTH - 2 * _CHART_WIDTH)
        titles = [_title(flow).ljust(_CHART_WIDTH)[:_CHART_WIDTH] for flow in self.flows]
        yield Text(gap.join(titles), "bold")
        for lines in zip(*(self.history.chart(flow.workload) for flow in self.flows), strict=True):
            yield Text(gap).join(lines)


def _title(flow: FlowNow) -> str:
    first_byte = f"{flow.first_byte_s * 1000:.0f} ms" if flow.first_byte_s else "–"
    return f"{flow.workload}  {flow.rate:.0f}/s  p50 {first_byte}  {flow.problems} errors"


def _share(served: Counter[str], deployment: str, color: str) -> Text:
    share = served[deployment] / (served.total() or 1)
    if not share:
        return Text("")
    return Text.assemble(("█" * max(1, round(share * (_BAR_WIDTH - 5))), color), f" {share:.0%}")


def _most(reasons: Counter[str] | None) -> str:
    """The reason that was given most often lately, and how often."""
    return " ".join(map(str, reasons.most_common(1)[0])) if reasons else ""


def clock(at: float) -> str:
    """Story seconds as m:ss."""
    return f"{int(at) // 60}:{int(at) % 60:02}"


def scene_at(at: float) -> Scene:
    return [scene for scene in SCENES if scene.at <= at][-1]
