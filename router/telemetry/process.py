"""What is told of any process: memory, CPU, open files, the collector of garbage."""

from typing import Final

from prometheus_client import CollectorRegistry, GCCollector, ProcessCollector

from router.telemetry.names import PROCESS
from router.telemetry.reading import Numbers

_registry: Final = CollectorRegistry()
ProcessCollector(registry=_registry)
GCCollector(registry=_registry)
_TOLD: Final = {metric.name: metric.labels for metric in PROCESS}


def process_numbers() -> Numbers:
    """Returns the numbers of the process that asks, by the names of `names.PROCESS`."""
    numbers: Numbers = {}
    for family in _registry.collect():
        for sample in family.samples:
            labels = tuple(sample.labels[name] for name in _TOLD[sample.name])
            numbers.setdefault(sample.name, {})[labels] = sample.value
    return numbers
