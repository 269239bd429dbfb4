"""`inference-router audit`: shows that the decision log is what was written, and that it keeps the contract."""

import contextlib
import shutil
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import click
import msgspec
import orjson
from rich.console import Console
from rich.progress import Progress

from router.accounting.audit import Auditor, Problem
from router.accounting.chain import Finding, Record, Verifier
from router.base.segments import segments_in, written_segments
from router.cli.check import WIDTH_OF_A_PIPE
from router.telemetry import anchors as anchoring
from router.telemetry.decision_log import ANCHORS_NAME

_SHOWN_MAX: Final = 20  # of each writer; JSON has all
_KEY_FILE: Final = click.Path(exists=True, dir_okay=False)


@dataclass(slots=True)
class Chain:
    """What was found of one writer."""

    writer: str
    findings: list[Finding] = field(default_factory=list)
    segments: tuple[int, int] = (0, 0)
    records: tuple[int, int] = (0, 0)  # sequences of the first and the last
    read: int = 0
    anchors: int = 0
    anchored: int = 0  # the last sequence that an anchor agrees with
    unanchored: int = 0
    unanchored_s: float | None = None  # between the last good anchor and the last record; None: no anchor agrees
    torn_bytes: int = 0
    requests: int = 0
    exclusive: int = 0
    held: int = 0
    departures: int = 0
    open: int = 0
    deleted: int = 0  # the last segment that is not there any more, as the log itself says
    dropped: int = 0  # records that the log itself says it had no room for


@dataclass(frozen=True, slots=True)
class Anchors:
    """The anchors by writer, and what is wrong with those that prove nothing."""

    by_writer: Mapping[str, Mapping[int, anchoring.Anchor]]
    faults: tuple[str, ...]
    proof: str  # what is known of their signatures


class MovedOnError(click.ClickException):
    """The log did not stand still. Says nothing of its state, so the status is another than that of a finding."""

    exit_code = 2


@click.group()
def audit() -> None:
    """Make signing keys, and verify the decision log."""


@audit.command("new-key")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
def new_key(file: Path) -> None:
    """Write a private key for anchors to FILE (mode 0600), and the public one to FILE.pub."""
    try:
        fingerprint = anchoring.new_key(file)
    except FileExistsError as error:
        raise click.ClickException(f"{error.filename} exists; keys are never written over") from error
    except OSError as error:
        raise click.ClickException(f"{error.filename}: {error.strerror}") from error
    click.echo(f"{file}: private, for decision_log.signing_key\n{file}.pub: public, for `audit verify --public-key`")
    click.echo(f"fingerprint {fingerprint}")


@audit.command()
@click.argument("folder", metavar="DIR", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--anchors", "files", multiple=True, type=_KEY_FILE, help=f"Default: {ANCHORS_NAME} in DIR, if there.")
@click.option("--public-key", "keys", multiple=True, type=_KEY_FILE, help="Anchors must be signed with it (or others).")
@click.option("--json", "as_json", is_flag=True, help="Write JSON, for machines.")
def verify(folder: Path, files: tuple[str, ...], keys: tuple[str, ...], as_json: bool) -> None:
    """Find whatever was done to the decision log in DIR since it was written, and who left without a refusal.

    Exit status: 0 nothing found, 1 something found, 2 cannot be called so.
    """
    default = folder / ANCHORS_NAME
    anchor_files = [Path(file) for file in files] or ([default] if default.exists() else [])
    if keys and not anchor_files:
        raise click.UsageError(f"there is no {default}: say with --anchors where the anchors are")
    try:
        # Anchors first: a log that is being written may grow behind them, but they never get ahead of it.
        anchors = _read_anchors(anchor_files, keys)
    except (OSError, ValueError) as error:
        raise click.UsageError(str(error)) from error
    folders = writers_in(folder)
    if not folders and not anchors.by_writer:
        raise click.UsageError(f"{folder} holds no decision log")
    gone = sorted(anchors.by_writer.keys() - folders.keys())
    faults = [*anchors.faults, *(f"writer {name} was anchored, and has no segments here" for name in gone)]
    with reading_progress(folders.values()) as progress:
        task = progress.add_task("reading", total=sum(folder_bytes(each) for each in folders.values()))
        chains = [
            verify_writer(name, each, anchors.by_writer.get(name, {}), lambda size: progress.advance(task, size))
            for name, each in folders.items()
        ]
    if keys:
        faults += [f"writer {chain.writer} has no signed anchor" for chain in chains if not chain.anchors]
    good = not faults and not any(chain.findings for chain in chains)
    if as_json:
        shown = {"ok": good, "faults": faults, "writers": msgspec.to_builtins(chains)}
        click.echo(orjson.dumps(shown, option=orjson.OPT_INDENT_2))
    else:
        for chain in chains:
            _show(chain, anchors.proof)
        for fault in faults[:_SHOWN_MAX]:
            click.secho(f"anchors: {fault}", fg="red")
        click.echo("good: nothing was found" if good else "NOT GOOD: see above")
    sys.exit(0 if good else 1)


def writers_in(folder: Path) -> dict[str, Path]:
    """The folders of segments by writer: those in `folder`, or `folder` itself."""
    if segments_in(folder):
        return {folder.resolve().name: folder}
    return {each.name: each for each in sorted(folder.iterdir()) if each.is_dir() and segments_in(each)}


def read_segments(verifier: Verifier, folder: Path, take: Callable[[Record], None]) -> Iterable[int]:
    """Hands each record of one writer to `take`; yields how many bytes were read, segment by segment.

    Raises MovedOnError where the router deletes what is about to be read.
    """
    found = written_segments(folder)
    for number, path in found:
        try:
            data = path.read_bytes()
            if number == found[-1][0]:
                # It may be written to while it is read, and an early page be older than a late one. What was there at
                # the end of the first reading is whole in the second.
                data = path.read_bytes()[: len(data.rstrip(b"\0"))]
        except FileNotFoundError as error:
            # The record that says so may stand in a segment that was not there when this one was found.
            raise MovedOnError(f"{path} was deleted while the log was read: call again") from error
        for record in verifier.segment(number, data):
            take(record)
        yield len(data)


def verify_writer(
    writer: str, folder: Path, anchors: Mapping[int, anchoring.Anchor], advance: Callable[[int], None]
) -> Chain:
    """Reads one writer's segments from the first to the last."""
    verifier = Verifier(writer, {sequence: anchor.hash for sequence, anchor in anchors.items()})

    def tell(problem: Problem) -> None:
        place = verifier.number, verifier.offset, verifier.sequence
        verifier.findings.append(Finding(problem.kind, problem.text, *place))

    auditor = Auditor(tell)
    last_at = 0.0

    def take(record: Record) -> None:
        nonlocal last_at
        last_at = max(last_at, record.at)
        auditor.read(record)

    for size in read_segments(verifier, folder, take):
        advance(size)
    auditor.finish()
    verifier.finish()
    anchored = anchors.get(verifier.anchored)
    return Chain(
        writer,
        findings=verifier.findings,
        segments=(verifier.first_segment, verifier.last_segment),
        records=(verifier.first_sequence, verifier.sequence),
        read=verifier.records,
        anchors=len(anchors),
        anchored=verifier.anchored,
        unanchored=verifier.unanchored(),
        unanchored_s=max(0.0, last_at - anchored.wall()) if anchored is not None else None,
        torn_bytes=verifier.torn_bytes,
        requests=auditor.requests,
        exclusive=auditor.exclusive,
        held=auditor.held,
        departures=auditor.departures,
        open=auditor.open,
        deleted=min(verifier.deleted_through, max(0, verifier.first_segment - 1)),
        dropped=auditor.dropped,
    )


def _read_anchors(files: Iterable[Path], key_files: Iterable[str]) -> Anchors:
    """Raises OSError and ValueError for files that are not what they should be."""
    keys = anchoring.load_public_keys(key_files)
    by_writer: dict[str, dict[int, anchoring.Anchor]] = {}
    faults = []
    for file in files:
        for number, anchor in anchoring.read_anchors(file.read_bytes()):
            if anchor is None:
                faults.append(f"{file}:{number}: a line that is no anchor")
            elif keys and (objection := anchoring.objection(anchor, keys)):
                faults.append(f"{file}:{number}: {objection}")
            else:
                own = by_writer.setdefault(anchor.writer, {})
                other = own.setdefault(anchor.sequence, anchor)
                if other.hash != anchor.hash:
                    again = f"record {anchor.sequence} was anchored before, with another hash"
                    faults.append(f"{file}:{number}: {again}: rewritten, or the file served two logs")
    return Anchors(by_writer, tuple(faults), _proof(by_writer, checked=bool(keys)))


def _proof(by_writer: Mapping[str, Mapping[int, anchoring.Anchor]], *, checked: bool) -> str:
    if checked:
        return "their signatures are right"
    if any(anchor.signature for own in by_writer.values() for anchor in own.values()):
        return "their signatures were not checked: no --public-key"
    return "they are not signed, so whoever can write here can have written all of it anew"


def folder_bytes(folder: Path) -> int:
    """Of all segments in it."""
    size = 0
    for _, path in segments_in(folder):
        with contextlib.suppress(FileNotFoundError):  # deleted meanwhile
            size += path.stat().st_size
    return size


def reading_progress(folders: Iterable[Path]) -> Progress:
    """On a terminal only, and never in what is piped on."""
    console = Console(stderr=True)
    return Progress(console=console, transient=True, disable=not console.is_terminal or not any(True for _ in folders))


def _show(chain: Chain, proof: str) -> None:
    first, last = chain.records
    click.secho(
        f"writer {chain.writer}: records {first} to {last}, segments {chain.segments[0]} to", nl=False, bold=True
    )
    click.secho(f" {chain.segments[1]}", bold=True)
    if chain.anchors:
        _say(f"anchors: {chain.anchors}; {proof}; the last that agrees is for record {chain.anchored}")
    else:
        _say("anchors: none. Whoever can write here can have written all of it anew")
    seconds = f", {chain.unanchored_s:.1f} s after the last anchor" if chain.unanchored_s is not None else ""
    _say(f"unanchored tail: {_count(chain.unanchored, 'record')}{seconds}; changes there may not show")
    if chain.torn_bytes:
        _say(f"the last record is not whole ({chain.torn_bytes} bytes): killed in it, or just being written")
    if chain.deleted:
        _say(f"deleted to keep within the bound, as the log says itself: segments up to {chain.deleted}")
    if chain.dropped:
        _say(f"dropped for want of disk space, as the log says itself: {_count(chain.dropped, 'record')}")
    _say(f"requests: {chain.requests}, of which {chain.exclusive} under an exclusive rule")
    _say(
        f"first refusal: {_count(chain.held + chain.open, 'request')}, of which {chain.departures} left the holder; "
        f"{chain.open} of these without an end in the log (running, killed, or dropped)"
    )
    for each in chain.findings[:_SHOWN_MAX]:
        place = f"segment {each.segment}, byte {each.offset}, record {each.sequence}"
        _say(f"{each.kind}: {each.text} ({place})", fg="red")
    if len(chain.findings) > _SHOWN_MAX:
        _say(f"and {len(chain.findings) - _SHOWN_MAX} more", fg="red")


def _say(text: str, fg: str | None = None) -> None:
    """One indented line; a terminal that is too narrow for it gets it broken between words."""
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else WIDTH_OF_A_PIPE
    click.secho(click.wrap_text(text, width, initial_indent="  ", subsequent_indent="    "), fg=fg)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
