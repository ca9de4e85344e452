"""After a price was fixed: what requests should have cost, shown first, then settled by one transfer an organization.

Usage records stay as they are; a receipt goes on to say what was charged. The transfer's memo names the correction.
"""

from collections import defaultdict

import structlog
from django.db import transaction
from django.utils import timezone

from accounts import audit, events
from accounts.models import User
from billing import ledger, letters, pricing, rate_json, receipts
from billing.models import AccountKind, Price, Rerating, ReratingLine, Transfer, UsageRecord
from billing.money import format_credits
from billing.usage import first_id_at

log = structlog.get_logger(__name__)

BATCH = 2_000


class NotReady(Exception):
    """The correction is not reckoned yet, or was applied."""


def reckon(rerating: Rerating) -> None:
    """Work out every organization's line; `requests` tells how far it is. May run again until it was applied."""
    wrong, right = _rate(rerating.wrong), _rate(rerating.right)
    charged: defaultdict[int, int] = defaultdict(int)
    correct: defaultdict[int, int] = defaultdict(int)
    requests: defaultdict[int, int] = defaultdict(int)
    seen = skipped = 0
    for record in _records(rerating).iterator(chunk_size=BATCH):
        seen += 1
        cost = _corrected(record, wrong, right)
        if cost is None:
            skipped += 1
        else:
            charged[record.organization_id] += record.cost_nanos
            correct[record.organization_id] += cost
            requests[record.organization_id] += 1
        if seen % BATCH == 0:
            Rerating.objects.filter(pk=rerating.pk).update(requests=seen, skipped=skipped)
    with transaction.atomic():
        locked = Rerating.objects.select_for_update().get(pk=rerating.pk)
        if locked.status == Rerating.Status.APPLIED:
            raise NotReady
        locked.lines.all().delete()
        ReratingLine.objects.bulk_create(
            ReratingLine(
                rerating=locked,
                organization_id=organization_id,
                requests=count,
                charged=charged[organization_id],
                correct=correct[organization_id],
            )
            for organization_id, count in requests.items()
        )
        locked.status, locked.requests, locked.skipped = Rerating.Status.READY, seen, skipped
        locked.save(update_fields=["status", "requests", "skipped"])


def apply(rerating: Rerating, *, by: User | None) -> int:
    """Settle every line, once, and tell the organizations; returns how many transfers. Raises `NotReady`."""
    with transaction.atomic():
        locked = Rerating.objects.select_for_update(of=("self",)).select_related("wrong").get(pk=rerating.pk)
        if locked.status != Rerating.Status.READY:
            raise NotReady
        told = [
            line
            for line in locked.lines.select_related("organization")
            if line.difference > 0 or (line.difference < 0 and locked.asks_for_more)
        ]
        for line in told:
            _settle(locked, line, by)
        locked.status, locked.applied_at = Rerating.Status.APPLIED, timezone.now()
        locked.save(update_fields=["status", "applied_at"])
    for line in told:
        _write(locked, line)
    log.info("rerating_applied", rerating=str(locked.public_id), transfers=len(told))
    return len(told)


def _records(rerating: Rerating) -> object:
    ids = {"request_id__gte": first_id_at(rerating.starts_at), "request_id__lt": first_id_at(rerating.ends_at)}
    return UsageRecord.objects.filter(price_version=rerating.wrong_id, cost_nanos__gt=0, **ids).order_by()


def _rate(row: Price) -> pricing.Rate:
    return rate_json.parse(row.model, row.rates, version=row.pk)


def _corrected(record: UsageRecord, wrong: pricing.Rate, right: pricing.Rate) -> int | None:
    """What the request costs by the right price; a charge that a rule reduced stays reduced in proportion.

    None where one of the prices has none for what was used.
    """
    usage = receipts.usage_of(record)
    try:
        before = pricing.cost(usage, wrong, record.service_tier)
        after = pricing.cost(usage, right, record.service_tier)
    except pricing.Unpriced:
        return None
    if record.cost_nanos < before:
        return -(-after * record.cost_nanos // before)
    return after


def _settle(rerating: Rerating, line: ReratingLine, by: User | None) -> None:
    account, house = ledger.account_of(line.organization), ledger.house(AccountKind.REVENUE)
    debit, credit = (house, account) if line.difference > 0 else (account, house)
    line.transfer = ledger.transfer(
        debit=debit,
        credit=credit,
        amount=abs(line.difference),
        kind=Transfer.Kind.ADJUSTMENT,
        idempotency_key=f"rerating:{rerating.public_id}:{line.organization_id}",
        memo=f"Corrected price of {rerating.wrong.model}: {line.requests} requests. {rerating.reason}",
        by=by,
        group=rerating.public_id,
    )
    line.save(update_fields=["transfer"])
    events.record(
        organization=line.organization,
        kind="usage.rerated",
        data={"model": rerating.wrong.model, "requests": line.requests, "credits": format_credits(line.difference)},
    )
    audit.record(
        action="usage.rerate",
        target=line.organization,
        organization=line.organization,
        by=by,
        credits=format_credits(line.difference),
        model=rerating.wrong.model,
    )


def _write(rerating: Rerating, line: ReratingLine) -> None:
    amount = format_credits(abs(line.difference))
    done = f"given back {amount} credits" if line.difference > 0 else f"charged {amount} credits"
    letters.send(
        line.organization,
        f"{line.organization.name}: a price was corrected",
        f"{line.requests} requests to {rerating.wrong.model} were charged by a wrong price. We have {done}. "
        f"{rerating.reason}",
    )
