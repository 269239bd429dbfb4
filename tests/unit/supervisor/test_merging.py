"""One status of several workers'."""

from typing import Any

from router.supervisor.merging import merged_status


def status(state: str = "up", *, for_s: float | None = None, available: bool = True, up: bool = True) -> dict[str, Any]:
    return {
        "config_version": "v",
        "draining": False,
        "client_connections": 3,
        "in_flight": {"api": 2},
        "placement_violations": 0,
        "decisions": {"sequence": 10, "dropped": 1},
        "waiting": 1,
        "workloads": {"api": {"servable": up, "models": {"gpt-4o": up, "gpt-4": False}}},
        "deployments": [
            {
                "id": "a/d",
                "cloud": "azure",
                "available": available,
                "reason": "" if available else "throttled",
                "verdict": {"state": state, "reason": "", "for_s": for_s},
                "in_flight_max": 5,
                "in_flight": 2,
                "connections": {"idle": 1, "busy": 2},
                "draining": False,
            }
        ],
    }


def test_what_is_counted_is_added_up() -> None:
    merged: Any = merged_status({0: status(), 1: status()})

    assert (merged["client_connections"], merged["waiting"]) == (6, 2)
    assert merged["in_flight"] == {"api": 4}
    assert merged["decisions"] == {"sequence": 20, "dropped": 2}
    (deployment,) = merged["deployments"]
    assert (deployment["in_flight"], deployment["in_flight_max"]) == (4, 10)
    assert deployment["connections"] == {"idle": 2, "busy": 4}


def test_the_gravest_verdict_stands_with_whose_it_is() -> None:
    merged: Any = merged_status(
        {0: status(), 1: status("throttled", for_s=1.5, available=False), 2: status("probing", available=True)}
    )

    (deployment,) = merged["deployments"]
    assert deployment["worker"] == 1
    assert deployment["verdict"] == {"state": "throttled", "reason": "", "for_s": 1.5}
    assert (deployment["available"], deployment["reason"]) == (False, "throttled")


def test_of_the_same_verdict_the_longer_one_stands() -> None:
    parts = {0: status("ejected", for_s=2.0, available=False), 1: status("ejected", for_s=9.0, available=False)}
    merged: Any = merged_status(parts)
    assert merged["deployments"][0]["worker"] == 1


def test_a_model_can_be_served_while_one_worker_can() -> None:
    merged: Any = merged_status({0: status(up=False), 1: status(up=True)})
    assert merged["workloads"] == {"api": {"servable": True, "models": {"gpt-4o": True, "gpt-4": False}}}


def test_of_no_worker_there_is_nothing_to_tell() -> None:
    merged: Any = merged_status({})
    assert (merged["client_connections"], merged["deployments"]) == (0, [])
