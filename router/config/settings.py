"""The settings that the rooms own: of health, retries, limits and the decision log."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path as FilePath

from router.base.segments import SEGMENT_BYTES_MIN, SEGMENTS_KEPT_MIN
from router.config.document import Document
from router.config.rules import kinds_in
from router.config.schema import DecisionLogSection, HealthSection, LimitsSection, ResilienceSection, WorkloadSection
from router.config.server import share
from router.health.settings import HealthSettings
from router.limits.settings import LimitSettings
from router.resilience.settings import RetrySettings
from router.telemetry.decision_log import DecisionLogSettings


def read_health(doc: Document, section: HealthSection) -> HealthSettings:
    settings = replace(HealthSettings(), **section.model_dump(exclude_none=True))
    for first, longest in (("open_s", "open_s_max"), ("ejection_s", "ejection_s_max")):
        if getattr(settings, first) > getattr(settings, longest):
            _fault_of_pair(doc, "health", section.model_fields_set, first, f"is above {longest}", longest)
    return settings


def read_resilience(section: ResilienceSection) -> RetrySettings:
    return replace(RetrySettings(), **section.model_dump(exclude_none=True))


def read_limits(doc: Document, section: LimitsSection, workers: int) -> LimitSettings:
    """One of so many workers' share of what is meant for all of them."""
    changed = section.model_dump(exclude_none=True, exclude={"concurrency"})
    settings = replace(LimitSettings(), adaptive=section.concurrency == "adaptive", **changed)
    if settings.concurrency_min > settings.concurrency_start:
        text, fields = "is above concurrency_start", section.model_fields_set
        _fault_of_pair(doc, "limits", fields, "concurrency_min", text, "concurrency_start")
    return replace(
        settings,
        concurrency_start=share(settings.concurrency_start, workers),
        concurrency_min=share(settings.concurrency_min, workers),
        waiting_max=share(settings.waiting_max, workers),
    )


def _fault_of_pair(doc: Document, top: str, written: set[str], key: str, message: str, other: str) -> None:
    """Names two values that exclude each other at the first, or at the second where the first is a default."""
    here = key if key in written else other
    doc.fault((top, here), message if here == key else f"does not go with {key}, which {message}")


def read_decision_log(doc: Document, section: DecisionLogSection | None) -> DecisionLogSettings | None:
    """Where decisions are recorded. Relative paths start at the file's folder."""
    if section is None:
        return None
    base, path = FilePath(doc.file).parent, ("decision_log",)
    if section.anchors is not None and section.signing_key is None:
        doc.fault((*path, "anchors"), "needs `signing_key`: an anchor that nobody signed proves nothing")
    if section.signing_key is not None and section.anchors is None:
        doc.fault((*path, "signing_key"), "needs `anchors`: the file that what it signs goes to")
    folder = base / section.dir
    anchors = base / section.anchors if section.anchors is not None else None
    key = base / section.signing_key if section.signing_key is not None else None
    if anchors is not None and anchors.resolve().is_relative_to(folder.resolve()):
        doc.fault((*path, "anchors"), "is inside `dir`: whoever can change the log could change them with it")
    if key is not None and not key.is_file():
        doc.fault((*path, "signing_key"), "is no file: make one with `inference-router audit new-key FILE`")
    changed = section.model_dump(exclude_none=True, include={"segment_bytes", "keep_bytes", "anchor_every_s"})
    settings = replace(
        DecisionLogSettings(str(folder), anchors=str(anchors) if anchors else None),
        signing_key=str(key) if key else None,
        **changed,
    )
    if settings.segment_bytes < SEGMENT_BYTES_MIN:
        doc.fault((*path, "segment_bytes"), f"must be at least {SEGMENT_BYTES_MIN // 1024}KiB")
    if settings.keep_bytes < SEGMENTS_KEPT_MIN * settings.segment_bytes:
        text = f"is less than {SEGMENTS_KEPT_MIN} times segment_bytes, so nearly nothing would be kept"
        _fault_of_pair(doc, "decision_log", section.model_fields_set, "keep_bytes", text, "segment_bytes")
    return settings


def check_recording(
    doc: Document, settings: DecisionLogSettings | None, workloads: Mapping[str, WorkloadSection]
) -> list[str]:
    """A refusal permits a send elsewhere only once it is recorded. Returns warnings."""
    if settings is not None:
        if settings.signing_key is None:
            return ["decision_log: without `signing_key` nobody can prove that it was not rewritten"]
        folder = FilePath(settings.anchors or settings.folder).parent
        return (
            [] if folder.is_dir() else [f"decision_log.anchors: nothing is anchored until there is a folder {folder}"]
        )
    for name, section in workloads.items():
        if "first_refusal" in kinds_in(section.placement):
            message = "needs the top-level `decision_log`: each refusal is recorded before the send that it permits"
            doc.fault(("workloads", name, "placement"), message)
    return []
