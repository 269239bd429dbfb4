"""A quota's minute is divided among keys only while somebody is turned away for want of its tokens."""

from router.limits.quota_twin import QuotaTwin
from router.model.policy import Priority
from router.proxy.backend import Quota

ACME = "acme", 1.0, Priority.NORMAL


def test_nothing_is_divided_before_somebody_is_turned_away_for_want_of_tokens() -> None:
    quota = Quota(QuotaTwin(1000, 600, 0.0))
    quota.turned_away(*ACME, 10, 1.0)
    assert quota.shares is None, "it was for want of requests"
    assert quota.share_wait_s(*ACME, 10, 1.0) == 0.0
    assert quota.twin is not None
    quota.twin.charge(975, 1.0)
    quota.turned_away(*ACME, 10, 1.0)
    assert quota.shares is not None
    assert quota.shares.uses["acme"].missed


def test_it_ends_a_minute_after_the_last_who_was() -> None:
    quota = Quota(QuotaTwin(1000, None, 0.0))
    assert quota.twin is not None
    quota.twin.charge(975, 1.0)
    quota.turned_away(*ACME, 10, 1.0)
    for moment, kept in ((59.0, True), (61.0, True), (119.0, True), (121.0, False)):
        quota.twin.wait_s(1, moment)  # as every choice asks first
        assert quota.share_wait_s(*ACME, 1, moment) == 0.0
        assert (quota.shares is not None) is kept


def test_who_is_beyond_its_part_waits_for_the_minutes_end_and_is_counted() -> None:
    quota = Quota(QuotaTwin(1000, None, 0.0))
    assert quota.twin is not None
    quota.twin.charge(975, 1.0)
    quota.turned_away(*ACME, 10, 1.0)
    quota.turned_away("other", 1.0, Priority.NORMAL, 10, 1.0)
    quota.twin.wait_s(1, 60.0)
    assert quota.share_wait_s(*ACME, 600, 60.0) == 0.0, "it had nothing yet"
    quota.twin.charge(600, 60.0)
    assert quota.shares is not None
    quota.shares.charge(*ACME, 600)
    assert quota.share_wait_s(*ACME, 1, 60.0) == 60.0
    quota.turned_away(*ACME, 1, 60.0)
    assert quota.shares is not None
    assert quota.shares.uses["acme"].missed


def test_where_no_limit_is_known_nothing_is_divided() -> None:
    for quota in (Quota(None), Quota(QuotaTwin(None, 600, 0.0))):
        quota.turned_away(*ACME, 10, 1.0)
        assert quota.shares is None
