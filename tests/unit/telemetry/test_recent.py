"""The ring of the last requests."""

from router.model.outcome import RequestRecord
from router.telemetry.recent import Recent


def record(number: int, outcome: str = "ok", client: str = "") -> RequestRecord:
    return RequestRecord(f"req_{number}", float(number), outcome, 200, 1.0, client)


def ring(kept: int, *records: RequestRecord) -> Recent:
    recent = Recent(kept)
    for each in records:
        recent.add(each)
    return recent


def test_the_oldest_give_way() -> None:
    recent = ring(3, *map(record, range(5)))
    assert [each.id for each in recent.newest(10)] == ["req_4", "req_3", "req_2"]
    assert recent.find("req_1") is None


def test_the_newest_that_are_wanted() -> None:
    recent = ring(9, record(1, "refused"), record(2), record(3, "refused"), record(4))
    assert [each.id for each in recent.newest(1, lambda each: each.outcome == "refused")] == ["req_3"]
    assert [each.id for each in recent.newest(2)] == ["req_4", "req_3"]


def test_the_routers_id_goes_before_a_clients_and_of_those_the_newest() -> None:
    """A client may send the id of somebody else's request as its own."""
    recent = ring(9, record(1), record(2, client="mine"), record(3, client="mine"), record(4, client="req_1"))
    found = [recent.find(name) for name in ("mine", "req_1", "unknown")]
    assert [each.id if each is not None else None for each in found] == ["req_3", "req_1", None]
