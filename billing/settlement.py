"""Settlement: usage records become transfers from customers to revenue, and hourly rollups. Restartable anywhere."""

import time
from typing import Any
from uuid import UUID

import orjson
import structlog
from django.db import DatabaseError, connection, transaction
from django.dispatch import Signal

from accounts import events
from billing.models import Account, UsageRecord
from billing.money import format_credits

log = structlog.get_logger(__name__)

# Rows in one commit: admissions on the account wait for its end, some milliseconds.
BATCH = 5_000
# The event names the dearest models; the sums are of all.
MODELS_TOLD = 50
# Sent after each commit, for tracing: `account_id`, `summary`, `request_ids` (some of what it settled), `began_at`.
posted = Signal()
REQUESTS_TOLD = 128


def settle_all() -> int:
    """Settle every account that has unsettled usage; returns how many usage records.

    One that cannot be settled keeps no other waiting; what the database said of the last one is raised at the end.
    """
    with connection.cursor() as cursor:
        cursor.execute("SELECT DISTINCT account_id FROM billing_usagerecord WHERE settled_at IS NULL")
        account_ids = [account_id for (account_id,) in cursor.fetchall()]
    accounts = Account.objects.select_related("organization").in_bulk(account_ids)
    settled, failure = 0, None
    for account in accounts.values():
        try:
            settled += settle_account(account)
        except DatabaseError as error:
            log.error("account_not_settled", account_id=account.pk, error=type(error).__name__)
            failure = error
    if failure is not None:
        raise failure
    return settled


def settle_account(account: Account) -> int:
    """Settle one account; returns how many usage records. At the same time as another, one of them finds nothing.

    What each commit settled is told in one event, `usage.recorded`, of the same commit.
    """
    settled = 0
    while True:
        began_at = time.perf_counter()
        with transaction.atomic():
            waiting = _some_unsettled(account.pk) if posted.has_listeners() else []
            summary = _post(account.pk)
            if summary is not None and account.organization is not None:
                events.record(organization=account.organization, kind="usage.recorded", data=_told(summary))
        if summary is not None and posted.has_listeners():
            posted.send_robust(
                sender=None,
                account_id=account.pk,
                summary=summary,
                request_ids=_settled_among(waiting),
                began_at=began_at,
            )
        count = summary["records"] if summary is not None else 0
        settled += count
        if count < BATCH:
            break
    if settled:
        log.info("usage_settled", account_id=account.pk, records=settled)
    return settled


def _post(account_id: int) -> dict[str, Any] | None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT billing_post_usage(%s, %s)::text", [account_id, BATCH])
        (summary,) = cursor.fetchone()
    return orjson.loads(summary) if summary else None


def _some_unsettled(account_id: int) -> list[UUID]:
    unsettled = UsageRecord.objects.filter(account_id=account_id, settled_at=None)
    return list(unsettled.values_list("request_id", flat=True)[:REQUESTS_TOLD])


def _settled_among(request_ids: list[UUID]) -> list[UUID]:
    settled = UsageRecord.objects.filter(request_id__in=request_ids, settled_at__isnull=False)
    return list(settled.values_list("request_id", flat=True))


def _told(summary: dict[str, Any]) -> dict[str, Any]:
    """The settled usage as the event tells it: amounts in credits."""
    models = summary["models"]
    return {
        "requests": summary["requests"],
        "credits": format_credits(summary["cost"]),
        "input_tokens": summary["input_tokens"],
        "output_tokens": summary["output_tokens"],
        "from": summary["first_at"],
        "until": summary["last_at"],
        "models": [
            {
                "model": each["model"],
                "requests": each["requests"],
                "credits": format_credits(each["cost"]),
                "input_tokens": each["input_tokens"],
                "output_tokens": each["output_tokens"],
            }
            for each in models[:MODELS_TOLD]
        ],
    }
