"""Writes the dashboards that Grafana loads: `python -m scripts.dashboards`, in the project's folder."""

from pathlib import Path
from typing import Final

import orjson

from scripts.dashboards import deployment, fleet, limits, placement, workload
from scripts.dashboards.panels import Dashboard

FOLDER: Final = Path(__file__).parents[2] / "config" / "grafana" / "dashboards"
DASHBOARDS: Final[tuple[Dashboard, ...]] = (
    fleet.DASHBOARD,
    workload.DASHBOARD,
    deployment.DASHBOARD,
    placement.DASHBOARD,
    limits.DASHBOARD,
)


def files() -> dict[Path, bytes]:
    """What must stand in which file."""
    return {
        FOLDER / f"{dashboard.name}.json": orjson.dumps(dashboard.json(), option=orjson.OPT_INDENT_2) + b"\n"
        for dashboard in DASHBOARDS
    }


if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    for file, text in files().items():
        file.write_bytes(text)
