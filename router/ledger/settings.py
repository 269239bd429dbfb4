"""Where the ledger is kept."""

from dataclasses import dataclass
from pathlib import Path

from router.model.fleet import Secret


@dataclass(frozen=True, slots=True)
class LedgerSettings:
    """`folder`: of the segments, one folder below it for each writer, that is each worker.

    `store`: the database's URL; None: an SQLite file in `folder`. `durable`: entries are on the disk, and not in the
    machine's memory alone, before the last bytes of their answers leave. `keep_bytes` bounds what waits in `folder` for
    a store that is away. Entries older than `retain_days` leave the store; sums stay.
    """

    folder: str
    store: Secret | None = None
    durable: bool = False
    segment_bytes: int = 16 << 20
    keep_bytes: int = 4 << 30
    retain_days: int = 400

    @property
    def url(self) -> str:
        """Of the store. It may hold a password."""
        return self.store.reveal() if self.store is not None else f"sqlite:///{self._file}"

    @property
    def is_new(self) -> bool:
        """Whether there is certainly nothing in the store: it is the embedded one, and has not been made yet."""
        return self.store is None and not self._file.exists()

    @property
    def _file(self) -> Path:
        return Path(self.folder) / "ledger.db"
