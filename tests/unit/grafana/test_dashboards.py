"""The dashboards that are committed are those that the script makes, and ask only for what there is."""

import re
from collections.abc import Iterator
from typing import Any, Final

import orjson
import pytest

from scripts.dashboards.__main__ import FOLDER, files
from scripts.dashboards.panels import COLOURS, COLUMNS, OUTCOMES
from tests.promql_kit import ROOT, faults, read_yaml

DASHBOARDS: Final = {file.stem: orjson.loads(file.read_bytes()) for file in sorted(FOLDER.glob("*.json"))}
every_dashboard = pytest.mark.parametrize("dashboard", DASHBOARDS.values(), ids=DASHBOARDS.keys())


def panels(dashboard: dict[str, Any]) -> list[dict[str, Any]]:
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


def expressions(dashboard: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Where each expression stands, and what it is."""
    for panel in panels(dashboard):
        for target in panel["targets"]:
            yield f"{panel['title']} {target['refId']}", target["expr"]
    for annotation in dashboard["annotations"]["list"]:
        yield annotation["name"], annotation["target"]["expr"]


def test_the_files_are_what_the_script_makes() -> None:
    made = files()
    assert {file.stem for file in made} == {"fleet", "workload", "deployment", "placement", "limits"} == set(DASHBOARDS)
    for file, text in made.items():
        assert file.read_bytes() == text, "python -m scripts.dashboards writes it anew"


@every_dashboard
def test_every_expression_asks_for_what_there_is(dashboard: dict[str, Any]) -> None:
    wrong = [f"{where}: {fault}" for where, expr in expressions(dashboard) for fault in faults(expr)]
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            asked = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"]["query"])
            assert asked is not None
            wrong += [f"${variable['name']}: {fault}" for fault in faults(f"sum by ({asked[2]}) ({asked[1]})")]
    assert not wrong


@every_dashboard
def test_every_variable_that_is_used_can_be_chosen(dashboard: dict[str, Any]) -> None:
    chosen = {variable["name"] for variable in dashboard["templating"]["list"]}
    built_in = {"__rate_interval", "__range", "__all", "__auto"}
    used = set(re.findall(r"\$\{?(\w+)", orjson.dumps(dashboard).decode())) - built_in
    assert used == chosen, "each is used, and nothing else is"


@every_dashboard
def test_every_panel_says_what_it_shows(dashboard: dict[str, Any]) -> None:
    assert dashboard["uid"] == f"inference-router-{next(k for k, v in DASHBOARDS.items() if v is dashboard)}"
    assert dashboard["description"]
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(set(ids)) == len(ids)
    for panel in panels(dashboard):
        assert panel["title"]
        assert panel["description"].endswith("."), panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        several = len(panel["targets"]) > 1
        for target in panel["targets"]:
            grouped = re.match(r"\(?\w*\(?.*?\bby \((?!le\))", target["expr"]) is not None
            if panel["type"] in ("timeseries", "state-timeline") and (several or grouped):
                assert target["legendFormat"] != "__auto", panel["title"]


@every_dashboard
def test_panels_fill_the_page_and_do_not_overlap(dashboard: dict[str, Any]) -> None:
    taken: set[tuple[int, int]] = set()
    for panel in dashboard["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not taken & cells, panel["title"]
        taken |= cells
    assert len(taken) == COLUMNS * max(y + 1 for _, y in taken), "no hole"


def test_coloured_words_are_words_of_their_metric() -> None:
    for metric, words in OUTCOMES.items():
        for word in words:
            assert word in COLOURS
            assert not list(faults(f'{metric}{{outcome="{word}"}}'))


def test_provisioning_names_the_kind_of_source_that_the_dashboards_ask_for() -> None:
    folder = ROOT / "config" / "grafana" / "provisioning"
    (source,) = read_yaml(folder / "datasources" / "prometheus.yaml")["datasources"]
    (provider,) = read_yaml(folder / "dashboards" / "inference-router.yaml")["providers"]
    assert source["type"] == "prometheus"
    assert provider["type"] == "file"
    for dashboard in DASHBOARDS.values():
        asked = dashboard["templating"]["list"][0]
        assert (asked["type"], asked["query"]) == ("datasource", source["type"])
