"""Workers that tell one another of health hold the same in the end, in whichever order they hear it."""

import random
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from router.health.breaker import Phase
from router.health.health import Health
from router.health.settings import HealthSettings
from router.health.word import Word

SETTINGS = HealthSettings(consecutive_failures=2)
WORKERS = 4

DEEDS = st.tuples(
    st.integers(0, WORKERS - 1),
    st.sampled_from(["fails", "is slow", "loses its credential", "serves", "is released", "tells"]),
    st.floats(0.001, 20.0),
)


def held(health: Health, now: float) -> tuple[Any, ...]:
    """What decides whether it is asked."""
    phase = health.phase(now)
    return phase, health.breaker.until if phase is Phase.OPEN else 0.0, round(health.ramp(now), 9)


def does(health: Health, deed: str, now: float) -> None:
    if deed == "fails":
        for _ in range(SETTINGS.consecutive_failures):
            health.failed(health.begin(now), "timeout", now)
    elif deed == "is slow" and not health.out:
        health.eject("slow", now)
    elif deed == "loses its credential":
        health.condemn("credential", now, 5.0)
    elif deed == "serves" and not health.refusal(now):
        health.succeeded(health.begin(now), now)
    elif deed == "is released" and health.ejected:
        health.release(now)


@given(st.lists(DEEDS, max_size=30), st.randoms(use_true_random=False))
def test_the_last_word_counts_in_whichever_order_all_are_heard(
    deeds: list[tuple[int, str, float]], rng: random.Random
) -> None:
    now = 100.0
    crew = [Health(SETTINGS, random.Random(index)) for index in range(WORKERS)]
    said: list[list[Word]] = [[] for _ in crew]
    for worker, deed, later_s in deeds:
        now += later_s
        if deed == "tells" and (word := crew[worker].word) is not None:
            for other in crew:
                other.hear(word, now)
            continue
        before = crew[worker].word
        does(crew[worker], deed, now)
        if (word := crew[worker].word) is not None and word is not before:
            said[worker].append(word)

    words = [word for each in said for word in each]
    for health in crew:
        for word in rng.sample(words, len(words)):
            health.hear(word, now)

    assert len({held(health, now) for health in crew}) == 1
    for health in crew:
        assert not any(health.hear(word, now) for word in words), "what was heard once changes nothing again"


@given(st.lists(DEEDS.filter(lambda deed: deed[1] != "tells"), min_size=1, max_size=15))
def test_who_begins_with_the_last_word_holds_what_the_others_do(deeds: list[tuple[int, str, float]]) -> None:
    """It was not there while it all happened: out, on probation or on the ramp, it is as elsewhere."""
    now, old = 100.0, Health(SETTINGS, random.Random(1))
    for _, deed, later_s in deeds:
        now += later_s
        does(old, deed, now)
    new = Health(SETTINGS, random.Random(2))
    if old.word is not None and not old.clear:
        new.hear(old.word, now)
    assert held(new, now) == held(old, now)
