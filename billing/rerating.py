"""After a price was fixed: what requests should have cost, shown first, then settled by one transfer an organization.

Usage records stay as they are; a receipt goes on to say what was charged. The transfer's memo names the correction.
What was corrected before, by another right price, counts as it was corrected. A standard price is corrected with the
prices of lists that were made from it: theirs are right with their markup on the right one.
"""

from collections import defaultdict
from dataclasses import dataclass
from uuid import UUID

import structlog
from django.db import transaction
from django.db.models import Q, QuerySet
from django.utils import timezone

from accounts import audit, events
from accounts.models import User
from billing import ledger, letters, pricing, rate_json, receipts
from billing.models import AccountKind, Price, Rerating, ReratingLine, Transfer, UsageRecord
from billing.money import format_credits
from billing.usage import first_id_at

log = structlog.get_logger(__name__)

BATCH = 2_000
# What requests were charged by and should have been, by the version that their records have.
_Rates = dict[int, tuple[pricing.Rate, pricing.Rate]]


class NotReady(Exception):
    """The correction is not reckoned yet, or was applied."""


@dataclass(frozen=True, slots=True)
class _Applied:
    """A correction of the same prices that was applied: to which ids, by which rates, and whose lines were settled."""

    first: UUID
    end: UUID
    rates: _Rates
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
    rates = _rates_of(rerating)
    sums: defaultdict[int, _Sum] = defaultdict(_Sum)
    seen = skipped = 0
    for record in _records(rerating, rates).iterator(chunk_size=BATCH):
        seen += 1
        cost = _corrected(record, rates)
        if cost is None:
            skipped += 1
        else:
            line = sums[record.organization_id]
            line.requests += 1
            line.charged += _charged(record, before)
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
        locked.follows_lists = True
        locked.save(update_fields=["status", "requests", "skipped", "follows_lists"])
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
    """Locked, and with it every correction of the same wrong price and of lists' prices from it: one at a time."""
    Price.objects.select_for_update(no_key=True).get(pk=_standard(rerating.wrong))
    return Rerating.objects.select_for_update(of=("self",)).select_related("wrong").get(pk=rerating.pk)


def _overlapping(rerating: Rerating) -> QuerySet[Rerating]:
    standard = _standard(rerating.wrong)
    rows = Rerating.objects.filter(Q(wrong=standard) | Q(wrong__derived_from=standard))
    return rows.filter(starts_at__lt=rerating.ends_at, ends_at__gt=rerating.starts_at).exclude(pk=rerating.pk)


def _applied_before(rerating: Rerating) -> list[_Applied]:
    rows = _overlapping(rerating).filter(status=Rerating.Status.APPLIED).select_related("wrong", "right")
    return [
        _Applied(
            first_id_at(row.starts_at),
            first_id_at(row.ends_at),
            _rates_of(row, with_lists=row.follows_lists),
            frozenset(row.lines.exclude(transfer=None).values_list("organization_id", flat=True)),
        )
        for row in rows.order_by("applied_at", "pk")
    ]


def _standard(price: Price) -> int:
    """The standard price that a list's was made from, or itself."""
    return price.derived_from_id or price.pk


def _rates_of(rerating: Rerating, *, with_lists: bool = True) -> _Rates:
    wrong, right = rerating.wrong, rerating.right
    rates = {wrong.pk: (_rate(wrong), _rate(right))}
    for row in Price.objects.filter(derived_from=wrong) if with_lists else ():
        marked_up = rate_json.scaled(right.rates, row.markup_bps or 0)
        rates[row.pk] = _rate(row), rate_json.parse(row.model, marked_up, version=right.pk)
    return rates


def _charged(record: UsageRecord, before: list[_Applied]) -> int:
    """What the request was charged, as the last correction left it."""
    charged: int = record.cost_nanos
    for one in before:
        if record.organization_id in one.organizations and one.first <= record.request_id < one.end:
            corrected = _corrected(record, one.rates)
            charged = charged if corrected is None else corrected
    return charged


def _records(rerating: Rerating, rates: _Rates) -> QuerySet[UsageRecord]:
    ids = {"request_id__gte": first_id_at(rerating.starts_at), "request_id__lt": first_id_at(rerating.ends_at)}
    return UsageRecord.objects.filter(price_version__in=list(rates), cost_nanos__gt=0, **ids).order_by()


def _rate(row: Price) -> pricing.Rate:
    return rate_json.parse(row.model, row.rates, version=row.pk)


def _corrected(record: UsageRecord, rates: _Rates) -> int | None:
    """What the request costs by the right price; a charge that a rule reduced stays reduced in proportion.

    None where the correction is not about its price, or where one of the prices has none for what was used.
    """
    if record.price_version not in rates:
        return None
    wrong, right = rates[record.price_version]
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
