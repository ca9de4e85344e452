"""After a price was fixed: what requests should have cost, shown first, then settled by one transfer an organization.

Usage records stay as they are; a receipt goes on to say what was charged. The transfer's memo names the correction.
What was corrected before, by another right price, counts as it was corrected.
"""

from collections import defaultdict
from dataclasses import dataclass
from uuid import UUID

import structlog
from django.db import transaction
from django.db.models import QuerySet
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


@dataclass(frozen=True, slots=True)
class _Applied:
    """A correction of the same price that was applied: to which ids, by which rate, and whose lines were settled."""

    first: UUID
    end: UUID
    right: pricing.Rate
    organizations: frozenset[int]


@dataclass(slots=True)
class _Sum:
    requests: int = 0
    charged: int = 0
    correct: int = 0


def reckon(rerating: Rerating) -> None:
    """Work out every organization's line; `requests` tells how far it is. May run again until it was applied."""
    while not _reckoned(rerating, _applied_before(rerating)):
        log.info("rerating_begins_anew", rerating=str(rerating.public_id))


def _reckoned(rerating: Rerating, before: list[_Applied]) -> bool:
    """False if another correction was applied meanwhile."""
    wrong, right = _rate(rerating.wrong), _rate(rerating.right)
    sums: defaultdict[int, _Sum] = defaultdict(_Sum)
    seen = skipped = 0
    for record in _records(rerating).iterator(chunk_size=BATCH):
        seen += 1
        cost = _corrected(record, wrong, right)
        if cost is None:
            skipped += 1
        else:
            line = sums[record.organization_id]
            line.requests += 1
            line.charged += _charged(record, wrong, before)
            line.correct += cost
        if seen % BATCH == 0:
            Rerating.objects.filter(pk=rerating.pk).update(requests=seen, skipped=skipped)
    with transaction.atomic():
        locked = _locked(rerating)
        if locked.status == Rerating.Status.APPLIED:
            raise NotReady
        if _applied_before(rerating) != before:
            return False
        locked.lines.all().delete()
        ReratingLine.objects.bulk_create(
            ReratingLine(
                rerating=locked,
                organization_id=organization_id,
                requests=line.requests,
                charged=line.charged,
                correct=line.correct,
            )
            for organization_id, line in sums.items()
        )
        locked.status, locked.requests, locked.skipped = Rerating.Status.READY, seen, skipped
        locked.save(update_fields=["status", "requests", "skipped"])
    return True


def apply(rerating: Rerating, *, by: User | None) -> int:
    """Settle every line, once, and tell the organizations; returns how many transfers. Raises `NotReady`.

    Other corrections of the same requests have to be reckoned again then.
    """
    with transaction.atomic():
        locked = _locked(rerating)
        if locked.status != Rerating.Status.READY:
            raise NotReady
        told = [
            line
            for line in locked.lines.select_related("organization")
            if line.difference > 0 or (line.difference < 0 and locked.asks_for_more)
        ]
        accounts = [ledger.account_of(line.organization) for line in told]
        ledger.lock(ledger.house(AccountKind.REVENUE), *accounts)
        for line in told:
            _settle(locked, line, by)
        locked.status, locked.applied_at = Rerating.Status.APPLIED, timezone.now()
        locked.save(update_fields=["status", "applied_at"])
        _overlapping(locked).filter(status=Rerating.Status.READY).update(status=Rerating.Status.RECKONING)
    for line in told:
        _write(locked, line)
    log.info("rerating_applied", rerating=str(locked.public_id), transfers=len(told))
    return len(told)


def _locked(rerating: Rerating) -> Rerating:
    """Locked, and with it every correction of the same wrong price: one of them at a time."""
    Price.objects.select_for_update(no_key=True).get(pk=rerating.wrong_id)
    return Rerating.objects.select_for_update(of=("self",)).select_related("wrong").get(pk=rerating.pk)


def _overlapping(rerating: Rerating) -> QuerySet[Rerating]:
    rows = Rerating.objects.filter(wrong=rerating.wrong_id, starts_at__lt=rerating.ends_at)
    return rows.filter(ends_at__gt=rerating.starts_at).exclude(pk=rerating.pk)


def _applied_before(rerating: Rerating) -> list[_Applied]:
    rows = _overlapping(rerating).filter(status=Rerating.Status.APPLIED).select_related("right")
    return [
        _Applied(
            first_id_at(row.starts_at),
            first_id_at(row.ends_at),
            _rate(row.right),
            frozenset(row.lines.exclude(transfer=None).values_list("organization_id", flat=True)),
        )
        for row in rows.order_by("applied_at", "pk")
    ]


def _charged(record: UsageRecord, wrong: pricing.Rate, before: list[_Applied]) -> int:
    """What the request was charged, as the last correction left it."""
    charged: int = record.cost_nanos
    for one in before:
        if record.organization_id in one.organizations and one.first <= record.request_id < one.end:
            corrected = _corrected(record, wrong, one.right)
            charged = charged if corrected is None else corrected
    return charged


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
