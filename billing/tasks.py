"""What Celery does for the books. Every task may run twice, at any time, and be killed anywhere."""

import structlog
from celery import shared_task
from django.db import connection

from billing import (
    budget_warnings,
    end_users,
    lots,
    low_balance,
    partitions,
    price_lists,
    reaper,
    rerating,
    reselling,
    settlement,
    stripe_api,
    stripe_events,
    stripe_plans,
    transcripts,
)
from billing import top_up as top_ups
from billing.models import Rerating

log = structlog.get_logger(__name__)


@shared_task
def settle() -> None:
    """Turn usage records into transfers and rollups."""
    settlement.settle_all()


@shared_task
def warn() -> None:
    """Tell of budgets that come to their end."""
    budget_warnings.warn()


@shared_task
def keep_lots() -> None:
    """Let every account's lots follow its transfers."""
    lots.sync_all()


@shared_task
def expire_credit() -> None:
    """Take what is left of credit that has expired."""
    expired = lots.expire()
    if expired:
        log.info("credit_expired", lots=expired)


@shared_task
def sweep_payments() -> None:
    """Pull from Stripe what webhooks may have lost."""
    if stripe_api.is_on():
        try:
            log.info("payments_swept", objects=stripe_events.sweep())
            stripe_plans.end_those_of_closed_organizations()
        except stripe_api.StripeUnavailable:
            log.warning("payments_not_swept")


@shared_task
def tell_of_low_balances() -> None:
    """Tell whoever runs out of credit."""
    low_balance.tell()


@shared_task
def top_up() -> None:
    """Buy credit for whoever wants it bought by itself."""
    if stripe_api.is_on():
        top_ups.run()


@shared_task
def keep_price_lists() -> None:
    """Let price lists follow the standard prices."""
    new = price_lists.keep()
    if new:
        log.info("price_lists_kept", prices=new)


@shared_task
def resell() -> None:
    """Fill up allowances whose month has begun, and pay resellers what their customers paid on top."""
    allowances, earnings = reselling.pay_allowances(), reselling.earn()
    if allowances or earnings:
        log.info("resold", allowances=allowances, earnings=earnings)


@shared_task
def rerate(rerating_id: int) -> None:
    """Reckon what a wrong price did."""
    rerating.reckon(Rerating.objects.select_related("wrong", "right").get(pk=rerating_id))


@shared_task
def forget_transcripts() -> None:
    """Delete the words of requests whose time is over."""
    forgotten = transcripts.forget_expired()
    if forgotten:
        log.info("transcripts_forgotten", count=forgotten)


@shared_task
def reap() -> None:
    """End the holds of workers that died."""
    reaper.reap()


@shared_task
def tidy() -> None:
    """Make the coming months' partitions; forget old idempotency keys, workers and idle budgets."""
    partitions.ensure()
    with connection.cursor() as cursor:
        cursor.execute(
            "DELETE FROM billing_idempotencykey i WHERE i.created_at < clock_timestamp() - interval '24 hours' "
            "AND NOT EXISTS (SELECT FROM billing_hold h WHERE h.request_id = i.request_id)"
        )
        forgotten = cursor.rowcount
    log.info(
        "tidied",
        idempotency_keys=forgotten,
        workers=reaper.forget_workers(),
        budgets=end_users.forget_idle(),
    )
