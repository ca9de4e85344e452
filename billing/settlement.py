"""Settlement: usage records become transfers from customers to revenue, and hourly rollups. Restartable anywhere.

Many accounts share a commit; several workers may settle at the same time, each takes the accounts that no other has.
"""

import time
from collections.abc import Iterator, Sequence
from typing import Any
from uuid import UUID

import orjson
import structlog
from django.db import DatabaseError, connection
from django.dispatch import Signal

from billing.models import Account

log = structlog.get_logger(__name__)

# Rows, and accounts, in one commit: admissions on them wait for its end, some milliseconds.
BATCH = 5_000
ACCOUNTS = 50
# The event names the dearest models; the sums are of all.
MODELS_TOLD = 50
# Sent after each commit for each of its accounts, for tracing: `account_id`, `summary`, `request_ids` (some of what it
# settled), `began_at`.
posted = Signal()
REQUESTS_TOLD = 128


def settle_all() -> int:
    """Settle every account that has unsettled usage; returns how many usage records.

    One that cannot be settled keeps no other waiting; what the database said of the last one is raised at the end.
    """
    settled, failures = 0, list[DatabaseError]()
    for account_ids in _batches(_waiting()):
        settled += _settle_apart(account_ids, failures)
    if failures:
        raise failures[-1]
    return settled


def settle_account(account: Account) -> int:
    """Settle one account; returns how many usage records. At the same time as another, one of them finds nothing."""
    return _settle([account.pk])


def _waiting() -> list[tuple[int, int]]:
    """The accounts that have unsettled usage, in the order of their ids, and how many records each."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT account_id, count(*) FROM billing_usagerecord WHERE settled_at IS NULL GROUP BY 1 ORDER BY 1"
        )
        return cursor.fetchall()


def _batches(waiting: list[tuple[int, int]]) -> Iterator[list[int]]:
    """Accounts whose records fit into one commit; one that has more than that is alone."""
    batch, rows = list[int](), 0
    for account_id, records in waiting:
        if batch and (len(batch) == ACCOUNTS or rows + records > BATCH):
            yield batch
            batch, rows = [], 0
        batch.append(account_id)
        rows += records
    if batch:
        yield batch


def _settle_apart(account_ids: Sequence[int], failures: list[DatabaseError]) -> int:
    """Settle accounts together; where that fails each half by itself, until only those fail that cannot be settled."""
    try:
        return _settle(account_ids)
    except DatabaseError as error:
        if not connection.is_usable():
            connection.close()
            connection.ensure_connection()  # without a database, none of the others could be settled
        if len(account_ids) == 1:
            log.error("account_not_settled", account_id=account_ids[0], error=type(error).__name__)
            failures.append(error)
            return 0
    half = len(account_ids) // 2
    return _settle_apart(account_ids[:half], failures) + _settle_apart(account_ids[half:], failures)


def _settle(account_ids: Sequence[int]) -> int:
    """Settle all that these accounts have. What a commit settled is told in its events, `usage.recorded`."""
    settled = 0
    while True:
        began_at = time.perf_counter()
        summaries = _post(account_ids)
        if posted.has_listeners():
            _tell(summaries, began_at)
        count = sum(summary["records"] for summary in summaries)
        settled += count
        if count < BATCH:
            break
    if settled:
        log.info("usage_settled", accounts=len(account_ids), records=settled)
    return settled


def _post(account_ids: Sequence[int]) -> list[dict[str, Any]]:
    """One commit: what it settled, by account."""
    ids_told = REQUESTS_TOLD if posted.has_listeners() else 0
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT billing_post_accounts(%s, %s, %s, %s)::text", [list(account_ids), BATCH, MODELS_TOLD, ids_told]
        )
        (summaries,) = cursor.fetchone()
    return orjson.loads(summaries) if summaries else []


def _tell(summaries: list[dict[str, Any]], began_at: float) -> None:
    for summary in summaries:
        request_ids = [UUID(each) for each in summary["request_ids"] or []]
        posted.send_robust(
            sender=None,
            account_id=summary["account_id"],
            summary=summary,
            request_ids=request_ids,
            began_at=began_at,
        )
