"""Keys that end, have two secrets, or stand in the store: what of them is valid when."""

import json
import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.config.moments import parse_moment
from router.config.snapshot import Snapshot
from router.config.stored_keys import StoredKeys, check_terms
from router.model.keys import ApiKey, StoredKey, StoredSecret
from tests.unit.config.workbench import GOOD, Workbench

A, B, C, D = (letter * 64 for letter in "abcd")
DAY_S = 86_400.0
END = parse_moment("2030-06-01") or 0.0
OF_ACME = f'sha256: "{A}"'


def stored(name: str = "shop", *secrets: StoredSecret, revoked_at: float | None = None, **terms: object) -> StoredKey:
    terms = {"workload": "api", "models": ["gpt-4o"], **terms}
    return StoredKey(name, json.dumps(terms), secrets or (StoredSecret(C),), 1.0, 1.0, revoked_at)


@pytest.fixture(scope="module")
def blank(tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    return Workbench(tmp_path_factory.mktemp("blank")).load(wall=0.0)


def names(snapshot: Snapshot) -> set[str]:
    return {key.name for key in snapshot.keys.values()}


def test_a_key_of_the_file_ends_by_itself_and_a_clock_that_steps_back_brings_it_back(bench: Workbench) -> None:
    snapshot = bench.load(GOOD.replace(OF_ACME, f"{OF_ACME}\n    expires: 2030-06-01"), wall=END - 1)

    assert names(snapshot) == {"acme", "evaluation"}
    assert snapshot.until == END
    after = snapshot.at(END)
    assert (names(after), after.since) == ({"evaluation"}, END)
    assert after.plans is snapshot.plans
    assert names(after.at(END - 0.001)) == {"acme", "evaluation"}


def test_a_configuration_that_is_read_after_a_keys_end_has_it_ended(bench: Workbench) -> None:
    snapshot = bench.load(GOOD.replace(OF_ACME, f"{OF_ACME}\n    expires: 2030-06-01T00:00:00+00:00"), wall=END)

    assert names(snapshot) == {"evaluation"}
    assert [key.name for key in snapshot.file_keys] == ["acme", "evaluation"]


def test_an_end_of_a_key_and_a_change_of_a_rule_both_bound_what_holds(bench: Workbench) -> None:
    changes = parse_moment("2031-02-01") or 0.0  # of the workload `research`
    snapshot = bench.load(GOOD.replace(OF_ACME, f"{OF_ACME}\n    expires: 2031-02-02"), wall=changes - 1)

    assert snapshot.until == changes
    assert (snapshot.at(changes).since, snapshot.at(changes).until) == (changes, changes + DAY_S)
    assert names(snapshot.at(changes + DAY_S)) == {"evaluation"}


def test_a_key_has_two_secrets_while_it_is_rotated(bench: Workbench) -> None:
    snapshot = bench.load(GOOD.replace(OF_ACME, f'sha256: ["{A}", "{D.upper()}"]'))
    first, second = snapshot.keys[bytes.fromhex(A)], snapshot.keys[bytes.fromhex(D)]

    assert replace(second, sha256=first.sha256) == first
    assert len(snapshot.keys) == 3


@pytest.mark.parametrize(
    ("written", "path", "message"),
    [
        (f'sha256: ["{A}", "{C}", "{D}"]', "keys[0].sha256", "a list of two"),
        ("sha256: []", "keys[0].sha256", "a list of two"),
        ("sha256: 5", "keys[0].sha256", "a list of two"),
        (f'sha256: ["{A}", "sk-ir-clear"]', "keys[0].sha256[1]", "is no SHA-256"),
        (f'sha256: ["{A}", "{A}"]', "keys[0].sha256[1]", "is that of keys[0] already"),
        (f'sha256: ["{A}", "{B}"]', "keys[1].sha256", "is that of keys[0] already"),
        (f"{OF_ACME}\n    expires: soon", "keys[0].expires", "is no date"),
        (f"{OF_ACME}\n    expires: 2030-06-01T00:00:00", "keys[0].expires", "is no date"),
    ],
)
def test_what_is_wrong_with_secrets_and_ends_is_named(bench: Workbench, written: str, path: str, message: str) -> None:
    _, faults = bench.broken(OF_ACME, written)

    assert [(fault.path, message in fault.message) for fault in faults] == [(path, True)]
    assert "sk-ir-clear" not in str(faults)


def test_a_stored_key_means_what_the_same_words_mean_in_the_file(bench: Workbench) -> None:
    words = {"limits": {"rpm": 60, "shadow": ["rpm"]}, "budget": {"day_usd": 2.5}, "expires": "2030-06-01"}
    lines = "".join(f"\n    {word}: {json.dumps(value)}" for word, value in words.items())
    of_file = bench.load(GOOD.replace(OF_ACME, f'sha256: "{C}"{lines}')).file_keys[0]

    (read,) = StoredKeys().read([stored("acme", **words)], bench.load())

    assert read == of_file


def test_each_secret_of_a_stored_key_ends_with_it_or_before(bench: Workbench) -> None:
    key = stored("shop", StoredSecret(C, END - DAY_S), StoredSecret(D), expires="2030-06-01")
    old, new = StoredKeys().read([key], bench.load())

    assert (old.sha256.hex(), old.expires_at) == (C, END - DAY_S)
    assert (new.sha256.hex(), new.expires_at) == (D, END)


def test_what_the_file_says_of_a_name_or_a_secret_holds(bench: Workbench) -> None:
    snapshot, reader = bench.load(), StoredKeys()
    keys = reader.read([stored("acme"), stored("thief", StoredSecret(A)), stored("shop", StoredSecret(D))], snapshot)
    joined = snapshot.joined(keys, 0.0)

    assert names(joined) == {"acme", "evaluation", "shop"}
    assert joined.keys[bytes.fromhex(A)].name == "acme"
    assert bytes.fromhex(C) not in joined.keys
    assert joined.plans is snapshot.plans
    assert names(joined.joined((), 0.0)) == {"acme", "evaluation"}


def test_a_revoked_key_is_none_and_one_of_another_configuration_is_named(bench: Workbench) -> None:
    snapshot, reader = bench.load(), StoredKeys()
    good = stored("good", StoredSecret(D))
    odd = [stored("odd", workload="gone"), replace_terms("broken", "{"), replace_terms("list", "[]")]

    assert reader.read([good, *odd, stored("old", revoked_at=2.0)], snapshot)[0].name == "good"
    found = {each.name: [(fault.path, fault.message) for fault in each.faults] for each in reader.unusable}
    assert found["odd"] == [("workload", "'gone' is no workload of this file")]
    assert ("terms", "is no JSON object") in found["broken"]
    assert ("terms", "is no JSON object") in found["list"]
    assert set(found) == {"odd", "broken", "list"}
    assert [key.name for key in reader.read([good], snapshot)] == ["good"]
    assert reader.unusable == []


def replace_terms(name: str, terms: str) -> StoredKey:
    return StoredKey(name, terms, (StoredSecret(C),), 1.0, 1.0)


def test_a_stored_key_whose_workload_goes_in_a_reload_goes_with_it(bench: Workbench) -> None:
    keys = StoredKeys().read([stored(workload="internal")], bench.load())
    without = bench.load(GOOD[: GOOD.index("  - name: evaluation")].replace("  internal:\n", "  other:\n"))

    assert names(without.joined(keys, 0.0)) == {"acme"}


@pytest.mark.parametrize(
    ("terms", "path", "message"),
    [
        ({"workload": "ap"}, "workload", "is no workload of this file (did you mean 'api'?)"),
        ({"models": []}, "models", "lists nothing"),
        ({"models": ["gpt-9"]}, "models[0]", "is served by no deployment"),
        ({"models": ["llama-70b"]}, "models[0]", "has no deployment at azure"),
        ({"models": ["gpt-4o-latest"]}, "models[0]", "is an alias"),
        ({"limits": {"rpm": 0}}, "limits.rpm", "must be above 0"),
        ({"limits": {"rpn": 5}}, "limits.rpn", "did you mean 'rpm'?"),
        ({"expires": "tomorrow"}, "expires", "'tomorrow' is no date"),
        ({"sha256": D}, "sha256", "is not one of the terms"),
        ({"quota": 5}, "quota", "is not a known key"),
    ],
)
def test_the_terms_of_a_new_key_are_checked_as_those_of_the_file(
    bench: Workbench, terms: dict[str, object], path: str, message: str
) -> None:
    faults = check_terms("shop", {"workload": "api", "models": ["gpt-4o"], **terms}, bench.load())

    assert {fault.path for fault in faults} == {path}
    assert message in faults[0].message
    assert "shop" in faults[0].file


def test_a_new_key_has_a_name_of_its_own_and_a_workload(bench: Workbench) -> None:
    snapshot = bench.load()

    assert check_terms("shop", {"workload": "api", "models": ["*"]}, snapshot) == ()
    assert [fault.path for fault in check_terms("acme", {"workload": "api", "models": ["*"]}, snapshot)] == ["name"]
    assert [fault.path for fault in check_terms("a b", {"workload": "api", "models": ["*"]}, snapshot)] == ["name"]
    assert [fault.message for fault in check_terms("shop", {"models": ["*"]}, snapshot)] == ["is missing"]


def test_what_was_read_is_not_read_again_until_the_configuration_changes(bench: Workbench) -> None:
    snapshot, reader = bench.load(), StoredKeys()
    keys = [stored("one", StoredSecret(C)), stored("two", StoredSecret(D))]
    first = reader.read(keys, snapshot)
    again = reader.read([stored("one", StoredSecret(C)), keys[1]], snapshot)

    assert all(old is new for old, new in zip(first, again, strict=True))
    other = reader.read(keys, bench.load(GOOD.replace("connect_s: 5", "connect_s: 6")))
    assert other == first
    assert other[0] is not first[0]


@given(
    ends=st.lists(st.one_of(st.just(math.inf), st.floats(-10, 10)), max_size=6),
    stored_ends=st.lists(st.one_of(st.just(math.inf), st.floats(-10, 10)), max_size=6),
    moments=st.lists(st.floats(-12, 12), min_size=1, max_size=8),
)
def test_at_any_moment_exactly_those_keys_are_valid_that_have_not_ended(
    ends: list[float], stored_ends: list[float], moments: list[float], blank: Snapshot
) -> None:
    """Whatever the clock does between the moments; and nothing changes between `since` and `until`."""
    of_file = [ApiKey(f"f{n}", "api", bytes([n]) * 32, None, expires_at=end) for n, end in enumerate(ends)]
    of_store = [ApiKey(f"s{n}", "api", bytes([99 - n]) * 32, None, expires_at=end) for n, end in enumerate(stored_ends)]
    snapshot = replace(blank, file_keys=tuple(of_file)).joined(of_store, moments[0])
    for moment in moments:
        snapshot = snapshot.at(moment)
        assert snapshot.since <= moment < snapshot.until
        assert set(snapshot.keys.values()) == {key for key in (*of_file, *of_store) if moment < key.expires_at}
        for key in (*of_file, *of_store):
            assert not snapshot.since < key.expires_at < snapshot.until
