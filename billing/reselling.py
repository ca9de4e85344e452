"""Resellers: a parent organization, its customers' allowances, and the markup that the parent earns.

A child has an account of its own: its requests spend its own credit, at the prices of its own list. What its list adds
to the standard prices is paid to the parent, a day at a time, out of revenue.
"""

from collections.abc import Iterable
from datetime import UTC, date, datetime, time, timedelta

import structlog
from django.db import models, transaction
from django.utils import timezone

from accounts import audit, events, organizations
from accounts.models import Organization, User
from billing import ledger, moves, price_lists
from billing.models import AccountKind, BillingProfile, Price, PriceList, Resale, Transfer, UsageRecord
from billing.money import format_credits
from billing.usage import first_id_at

log = structlog.get_logger(__name__)

BPS = 10_000
# After midnight until every record of the day before is there, and how long before its record a request may have begun.
COMMITTED = timedelta(minutes=10)
BEGAN = timedelta(days=7)


class NoReseller(Exception):
    """The organization may not resell: staff switch it on."""


class HasReseller(Exception):
    """The organization resells, or has a reseller already."""


def may_resell(organization: Organization) -> bool:
    """Whether staff let this organization have customers of its own."""
    return BillingProfile.objects.filter(organization=organization, is_reseller=True).exists()


def create_child(*, parent: Organization, name: str, by: User, origin: audit.Origin | None = None) -> Resale:
    """A new organization that is the parent's customer; `by` owns it until people are invited. Raises `NoReseller`."""
    with transaction.atomic():
        child = organizations.create(name=name, owner=by)
        return adopt(parent=parent, child=child, by=by, origin=origin)


def adopt(*, parent: Organization, child: Organization, by: User | None, origin: audit.Origin | None = None) -> Resale:
    """Make an organization the parent's customer. Raises `NoReseller`, `HasReseller`."""
    if not may_resell(parent):
        raise NoReseller
    with transaction.atomic():
        if may_resell(child) or Resale.objects.filter(child=child).exists():
            raise HasReseller
        made = Resale.objects.create(parent=parent, child=child)
        for organization in (parent, child):
            audit.record(
                action="resale.begin",
                target=organization,
                organization=organization,
                by=by,
                origin=origin,
                parent=parent.slug,
                child=child.slug,
            )
    return made


def price_list_of(parent: Organization) -> PriceList:
    """The parent's own price list, made at the first call: the standard prices."""
    slug = f"reseller-{parent.pk}"
    made, is_new = PriceList.objects.get_or_create(
        slug=slug, defaults={"name": f"{parent.name}'s prices"[:80], "owner": parent}
    )
    if is_new:
        price_lists.keep(made)
    return made


def set_markup(*, parent: Organization, markup_bps: int, markups: dict[str, int], by: User | None) -> None:
    """What the parent's customers pay on top of the standard prices, from now on. Raises `price_lists.BadMarkup`."""
    if markup_bps < 0 or any(bps < 0 for bps in markups.values()):
        raise price_lists.BadMarkup
    with transaction.atomic():
        found = price_list_of(parent)
        found.markup_bps, found.markups = markup_bps, markups
        price_lists.save(found)
        audit.record(
            action="resale.markup", target=parent, organization=parent, by=by, markup_bps=markup_bps, markups=markups
        )


def set_allowance(resale: Resale, *, nanos: int | None, by: User | None) -> None:
    """Fill the child's credit up to `nanos` at the beginning of each month, the present one at once; None: never."""
    with transaction.atomic():
        Resale.objects.filter(pk=resale.pk).update(allowance_nanos=nanos, allowed_month=None)
        shown = None if nanos is None else format_credits(nanos)
        audit.record(
            action="resale.allowance",
            target=resale.child,
            organization=resale.parent,
            by=by,
            child=resale.child.slug,
            credits=shown,
        )


def pay_allowances(now: datetime | None = None) -> int:
    """Fill up whose month has begun; returns how many. May run twice: a month is filled up once."""
    month = (now or timezone.now()).astimezone(UTC).date().replace(day=1)
    active = Organization.Status.ACTIVE
    due = Resale.objects.filter(allowance_nanos__isnull=False, parent__status=active, child__status=active)
    due = due.exclude(allowed_month=month)
    return sum(_fill_up(resale, month) for resale in due.select_related("parent", "child"))


def earn(today: date | None = None) -> int:
    """Pay parents the markup of the days that are over and settled; returns how many transfers. May run twice."""
    today = today or (timezone.now() - COMMITTED).date()
    paid = 0
    for resale in Resale.objects.select_related("parent", "child"):
        day = resale.earned_through + timedelta(days=1) if resale.earned_through else resale.created_at.date()
        while day < today and _is_settled(resale.child, day):
            paid += _pay_day(resale, day)
            day += timedelta(days=1)
    return paid


def earned(parent: Organization, since: date) -> int:
    """Nano-dollars of markup that a parent was paid since that day."""
    account = ledger.account_of(parent)
    rows = Transfer.objects.filter(credit=account, idempotency_key__startswith="resale:", created_at__date__gte=since)
    total: int | None = rows.aggregate(total=models.Sum("amount"))["total"]
    return total or 0


def _fill_up(resale: Resale, month: date) -> bool:
    available = ledger.balance_of(resale.child).available
    missing = (resale.allowance_nanos or 0) - available
    try:
        with transaction.atomic():
            if missing > 0:
                moves.send(
                    sender=resale.parent,
                    recipient=resale.child,
                    amount=missing,
                    by=None,
                    idempotency_key=f"allowance:{resale.pk}:{month}:{resale.allowance_nanos}",
                    memo=f"Allowance of {month:%B %Y}: {resale.child.name}",
                )
            Resale.objects.filter(pk=resale.pk).update(allowed_month=month)
    except moves.NotEnough as problem:
        data = {"child": resale.child.slug, "problem": str(problem)}
        events.record(organization=resale.parent, kind="allowance.failed", data=data)
        log.warning("allowance_failed", organization_id=resale.parent_id, child=resale.child_id)
        return False
    except ledger.IdempotencyMismatch:  # it was filled up before, when another amount was missing
        Resale.objects.filter(pk=resale.pk).update(allowed_month=month)
        return False
    return missing > 0


def _day_of(child: Organization, day: date) -> models.QuerySet[UsageRecord]:
    """What ended on that day. By their ids these requests could have begun before, and end after the day was paid."""
    starts = datetime.combine(day, time(), UTC)
    ends = starts + timedelta(days=1)
    ids = {"request_id__gte": first_id_at(starts - BEGAN), "request_id__lt": first_id_at(ends + COMMITTED)}
    rows = UsageRecord.objects.filter(organization=child, created_at__gte=starts, created_at__lt=ends, **ids)
    return rows.order_by()


def _is_settled(child: Organization, day: date) -> bool:
    return not _day_of(child, day).filter(settled_at=None).exists()


def _pay_day(resale: Resale, day: date) -> bool:
    """One transfer of a day's markup; the cost is split by the markup of the price that each request was charged by."""
    rows = _day_of(resale.child, day).values("price_version").annotate(total=models.Sum("cost_nanos"))
    costs = {row["price_version"]: row["total"] for row in rows}
    amount = sum(_markup_in(costs[price.pk], price.markup_bps or 0) for price in _own_prices(resale, costs))
    with transaction.atomic():
        locked = Resale.objects.select_for_update(of=("self",)).get(pk=resale.pk)
        if locked.earned_through is not None and locked.earned_through >= day:
            return False
        if amount > 0:
            ledger.transfer(
                debit=ledger.house(AccountKind.REVENUE),
                credit=ledger.account_of(resale.parent),
                amount=amount,
                kind=Transfer.Kind.ADJUSTMENT,
                idempotency_key=f"resale:{resale.pk}:{day}",
                memo=f"Markup of {day}: {resale.child.name}",
            )
        Resale.objects.filter(pk=resale.pk).update(earned_through=day)
    return amount > 0


def _own_prices(resale: Resale, versions: Iterable[int]) -> models.QuerySet[Price]:
    lists = resale.parent.price_lists.values("slug")
    return Price.objects.filter(pk__in=list(versions), price_list__in=lists)


def _markup_in(cost: int, bps: int) -> int:
    """The part of a cost that is markup, rounded down: the standard price is never paid out."""
    return cost * bps // (BPS + bps) if bps > 0 else 0
