"""What the deployments of one tier know together, for those that know nothing of late."""

from collections.abc import Iterable
from statistics import median_low

from router.balancing.meter import Meter


def tell_peers(meters: Iterable[Meter]) -> None:
    """Sets the peers' view of each to the median of what they know; of two, the faster one's. For a job."""
    members = list(meters)
    for firsts in ([meter.stream for meter in members], [meter.whole for meter in members]):
        known = [first.mean_s for first in firsts if first.mean_s]
        if known:
            view = median_low(known)
            for first in firsts:
                first.peers_s = view
