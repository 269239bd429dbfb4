"""What single requests used, by their ids."""

from collections.abc import Sequence

from sqlalchemy import select

from router.ledger.engines import reached
from router.ledger.store import Store
from router.ledger.tables import REQUESTS
from router.model.outcome import Usage


async def tokens_of(store: Store, ids: Sequence[str]) -> dict[str, Usage]:
    """Of those that the store has, as their deployments reported it; a few hundred at once. Raises StoreError."""
    columns = REQUESTS.c
    wanted = select(columns.id, columns.prompt_tokens, columns.completion_tokens, columns.cached_tokens)
    async with reached(), store.reads.connect() as connection:
        rows = await connection.execute(wanted.where(columns.id.in_(ids)))
        return {name: Usage(prompt, completion, cached) for name, prompt, completion, cached in rows}
