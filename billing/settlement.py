"""Settlement: usage records become transfers from customers to revenue, and hourly rollups. Restartable anywhere."""

import structlog
from django.db import connection

from billing.models import Account

log = structlog.get_logger(__name__)

# Rows in one commit: admissions on the account wait for its end, some milliseconds.
BATCH = 5_000


def settle_all() -> int:
    """Settle every account that has unsettled usage; returns how many usage records."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT DISTINCT account_id FROM billing_usagerecord WHERE settled_at IS NULL")
        account_ids = [account_id for (account_id,) in cursor.fetchall()]
    return sum(_settle(account_id) for account_id in account_ids)


def settle_account(account: Account) -> int:
    """Settle one account; returns how many usage records. At the same time as another, one of them finds nothing."""
    return _settle(account.pk)


def _settle(account_id: int) -> int:
    settled = 0
    while True:
        with connection.cursor() as cursor:
            cursor.execute("SELECT billing_post_usage(%s, %s)", [account_id, BATCH])
            (count,) = cursor.fetchone()
        settled += count
        if count < BATCH:
            break
    if settled:
        log.info("usage_settled", account_id=account_id, records=settled)
    return settled
