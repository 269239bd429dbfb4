"""Reading a decision log for a replay: writer by writer, with the tokens that a ledger has of each request."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

import click

from router.accounting.chain import Event, Record, Verifier
from router.cli.against.replay import Replay
from router.cli.audit import folder_bytes, read_segments, reading_progress, writers_in
from router.cli.report.store import missing, shown
from router.config.snapshot import Snapshot
from router.model.decision import Decision
from router.model.outcome import Usage

if TYPE_CHECKING:
    pass

_AT_ONCE: Final = 500  # ids in one question to the store
Tokens: TypeAlias = Callable[[Sequence[str]], dict[str, Usage]]


class Reader:
    """Hands the requests of a log to a replay, some at a time. `versions`: of the configurations that it names."""

    def __init__(self, replay: Replay, tokens: Tokens, since: float) -> None:
        self.versions: Counter[str] = Counter()
        self.last_at = 0.0  # wall seconds
        self._replay, self._tokens, self._since = replay, tokens, since
        self._waiting: list[Decision] = []

    def take(self, record: Record) -> None:
        """The next record of one writer."""
        if type(record) is Decision:
            self.last_at = max(self.last_at, record.at)
            if record.at >= self._since:
                self._waiting.append(record)
                if len(self._waiting) >= _AT_ONCE:
                    self.flush()
        elif type(record) is Event and record.event == "configuration":
            self.versions[str(record.fields.get("version", ""))] += 1

    def flush(self) -> None:
        """Replays those that wait."""
        used = self._tokens([decision.request for decision in self._waiting])
        for decision in self._waiting:
            self._replay.take(decision, used.get(decision.request))
        self._waiting.clear()


def read(folder: Path, replay: Replay, ledger_of: Snapshot, since: float) -> tuple[Reader, list[str]]:
    """Reads a log whole. Returns what was read, and what a reader should know of it. Raises ClickException."""
    writers = writers_in(folder)
    if not writers:
        raise click.UsageError(f"{folder} holds no decision log")
    notes: list[str] = []
    with _ledger(ledger_of, notes) as tokens, reading_progress(writers.values()) as progress:
        reader = Reader(replay, tokens, since)
        task = progress.add_task("replaying", total=sum(folder_bytes(each) for each in writers.values()))
        for name, each in writers.items():
            verifier = Verifier(name)
            for size in read_segments(verifier, each, reader.take):
                progress.advance(task, size)
            if verifier.findings:
                notes.append(f"the log of writer {name} is not as it was written: see `audit verify`")
        reader.flush()
    return reader, notes


@contextlib.contextmanager
def _ledger(snapshot: Snapshot, notes: list[str]) -> Iterator[Tokens]:
    """The store of a configuration's ledger, asked in between. Without one nobody knows any tokens."""
    if snapshot.ledger is None:
        notes.append("the old file has no `ledger`, so nobody knows what requests used: no cost can be told")
        yield lambda _: {}
        return
    if absent := missing(snapshot.ledger.url):
        notes.append(f"{absent}: no cost can be told")
        yield lambda _: {}
        return
    from router.ledger.engines import StoreError  # slow to import, and needed by nobody else
    from router.ledger.store import Store
    from router.ledger.tokens import tokens_of

    with asyncio.Runner() as runner:
        store: Store = Store(snapshot.ledger.url)
        try:
            yield lambda ids: runner.run(tokens_of(store, ids))
        except StoreError as error:
            raise click.ClickException(f"the store at {shown(snapshot.ledger.url)} cannot be read: {error}") from None
        finally:
            runner.run(store.close())
