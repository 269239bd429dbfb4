"""The refusal report: each offer is counted once, in its row."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from router.accounting.refusals import PARTS, RefusalReport
from router.model.decision import ACCEPTED, REFUSALS, Decision, Leave, Offer

HOUR = 3600.0


def decision(request: str, at: float, *offers: Offer, model: str = "gpt-4o") -> Decision:
    return Decision(request, at, "k", "internal", model, "chat", "first_refusal:azure", "v1", offers, "x", "c", "ok")


def leave(request: str, at: float, *offers: Offer) -> Leave:
    return Leave(
        request, at, "k", "internal", "gpt-4o", "chat", "first_refusal:azure", "v1", offers, "oracle/l", "oracle"
    )


PTU, STD = Offer("a/ptu", "azure", "throttled"), Offer("a/std", "azure", "slow")
ORACLE = Offer("o/llama", "oracle", "accepted")


def test_rows_are_by_cloud_model_and_hour() -> None:
    report = RefusalReport(("cloud", "model", "hour"), since=0.0)
    report.read(decision("r1", 10.0, PTU, STD, ORACLE))
    report.read(decision("r2", HOUR - 1, Offer("a/ptu", "azure", "accepted")))
    report.read(decision("r3", HOUR, PTU, ORACLE, model="o3"))

    rows = {key: (row.requests, row.offers, row.accepted, row.refused) for key, row in report.rows()}
    assert rows == {
        ("azure", "gpt-4o", "1970-01-01T00:00Z"): (2, 3, 1, 2),
        ("azure", "o3", "1970-01-01T01:00Z"): (1, 1, 0, 1),
        ("oracle", "gpt-4o", "1970-01-01T00:00Z"): (1, 1, 1, 0),
        ("oracle", "o3", "1970-01-01T01:00Z"): (1, 1, 1, 0),
    }
    assert list(rows) == sorted(rows)


def test_a_departure_counts_once_and_one_without_an_end_counts_too() -> None:
    report = RefusalReport(("cloud",), since=0.0)
    report.read(leave("r1", 1.0, PTU, STD))
    report.read(decision("r1", 1.0, PTU, STD, ORACLE))
    report.read(leave("killed", 2.0, PTU, STD))

    ((_, azure), (_, oracle)) = report.rows()
    assert (azure.requests, azure.offers, azure.outcomes["throttled"], azure.outcomes["slow"]) == (2, 4, 2, 2)
    assert (oracle.requests, oracle.accepted) == (1, 1)


def test_what_arrived_before_is_left_out() -> None:
    report = RefusalReport(("cloud",), since=100.0)
    report.read(decision("r1", 99.9, PTU))
    report.read(leave("r2", 99.9, PTU))
    assert report.rows() == []
    report.read(decision("r3", 100.0, PTU))
    assert len(report.rows()) == 1


OFFERS = st.builds(
    Offer, st.sampled_from(("d1", "d2")), st.sampled_from(("azure", "oracle")), st.sampled_from((ACCEPTED, *REFUSALS))
)


@given(st.lists(st.lists(OFFERS, max_size=4)), st.lists(st.sampled_from(tuple(PARTS)), unique=True))
def test_every_offer_is_in_exactly_one_row(requests: list[list[Offer]], parts: list[str]) -> None:
    report = RefusalReport(parts, since=0.0)
    for number, offers in enumerate(requests):
        report.read(decision(f"r{number}", 1.0 + number, *offers))

    rows = report.rows()
    total = sum((row.outcomes for _, row in rows), Counter[str]())
    assert total == Counter(offer.outcome for offers in requests for offer in offers)
    assert all(row.offers == row.accepted + row.refused for _, row in rows)
    assert all(1 <= row.requests <= row.offers for _, row in rows)
