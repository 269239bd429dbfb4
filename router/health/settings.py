"""The limits by which deployments are judged."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class HealthSettings:
    """For all deployments alike. Times in seconds, shares from 0 to 1."""

    consecutive_failures: int = 5  # in a row, and nobody is sent there
    open_s: float = 2.0  # after the first time; doubles with each that follows before health is back
    open_s_max: float = 60.0
    ejection_s: float = 10.0  # times the number of ejections that are not yet made good
    ejection_s_max: float = 300.0
    ejected_share_max: float = 0.5  # of a tier; never its last deployment
    success_rate_min: float = 0.8  # a deployment below it, and clearly below its peers, is ejected
    success_rate_requests: int = 20  # fewer say nothing about a rate
    slow_factor: float = 3.0  # times the median of its peers' first-byte times
    slow_start_s: float = 10.0  # from a tenth of its share to all of it, after it was out
    probe_every_s: float = 10.0  # where there is no traffic to learn from
    probe_timeout_s: float = 5.0
