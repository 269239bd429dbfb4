"""From the start of a program to its first answered request."""

import contextlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from loadtests.bench.bodies import fetch
from loadtests.bench.figures import Sample
from loadtests.bench.mode import Measure, Options, apart, new_site
from loadtests.bench.subjects import SUBJECTS, Site, stand, started

POLL_S: Final = 0.002


@dataclass(frozen=True, slots=True)
class StartUp:
    """A fresh process each time; its files are in the page cache, and Python's are compiled."""

    name: str
    bar: str
    body: bytes
    unit: str = "s to the first answer"
    added: bool = False
    subjects: tuple[str, ...] = ("nginx", "router")

    def rounds(self, options: Options) -> int:
        return options.rounds

    @contextlib.contextmanager
    def session(self, options: Options, subjects: Sequence[str]) -> Iterator[Measure]:
        with new_site(options.cores) as site, stand(site, (), 0.0) as here:
            for name in subjects:
                self._sample(name, here.site)  # files into the cache
            yield lambda name: self._sample(name, here.site)

    def _sample(self, name: str, site: Site) -> Sample:
        with apart(site) as own:
            began = time.monotonic()
            with started(SUBJECTS[name], own, poll_s=POLL_S) as target:
                ready_s = time.monotonic() - began
                fetch(target.port, target.path, self.body)
                answered_s = time.monotonic() - began
        return Sample(answered_s, 1, more={"ready_s": ready_s})
