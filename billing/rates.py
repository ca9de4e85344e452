"""The price book. A price counts from its date on; what was charged before keeps the version that it was charged by."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

import structlog
from django.db import connection, transaction

from billing import rate_json
from billing.price_list import Entry
from billing.price_models import Price
from billing.pricing import COMPONENTS, Rate

log = structlog.get_logger(__name__)

_LOCK = "billing.price"
_NANOS_PER_USD = 1_000_000_000

# Prices that are kept in parsed form: some times as many as a large installation has in force.
MAX_PARSED = 50_000

Key = tuple[str, str, str]
_parsed: dict[tuple[int, str, datetime], Rate] = {}


class PriceInThePast(ValueError):
    """The price would count from before now, where `latest` was charged already."""

    def __init__(self, latest: Price) -> None:
        super().__init__(f"{latest.model} has a price already: the past is not priced again")
        self.latest = latest


class NoSuchPrice(LookupError):
    """There is no price with this version."""

    def __init__(self, version: int) -> None:
        super().__init__(f"no price version {version}")
        self.version = version


@dataclass(frozen=True, slots=True)
class Loaded:
    """What `load` did: how many prices are new, how many stay as they were."""

    added: int
    unchanged: int


@dataclass(frozen=True, slots=True)
class _Listing:
    key: Key
    rates: Mapping[str, Any]
    source: str
    origin: str
    effective_at: datetime | None


def current_rates(at: datetime | None = None) -> dict[str, Rate]:
    """Standard selling prices by model at `at`; None: now, by the database's clock."""
    rows = Price.objects.filter(side=Price.Side.SELL, price_list="").at(at)
    return {row.model: rate for row in rows if (rate := _rate(row)) is not None}


def current_costs(at: datetime | None = None) -> dict[tuple[str, str], Rate]:
    """What we pay, by provider slug and the provider's own name of the model."""
    rows = Price.objects.filter(side=Price.Side.COST).at(at)
    return {(row.provider, row.model): rate for row in rows if (rate := _rate(row)) is not None}


def current_list_rates(at: datetime | None = None) -> dict[str, dict[str, Rate]]:
    """Selling prices by price list and model."""
    lists: dict[str, dict[str, Rate]] = {}
    for row in Price.objects.filter(side=Price.Side.SELL).exclude(price_list="").at(at):
        if (rate := _rate(row)) is not None:
            lists.setdefault(row.price_list, {})[row.model] = rate
    return lists


def rate_of(version: int) -> Rate:
    """The rate that a hold or a usage record was priced by. Raises `NoSuchPrice`."""
    row = Price.objects.filter(pk=version).first()
    if row is None:
        raise NoSuchPrice(version)
    return rate_json.parse(row.model, row.rates, version=row.pk)


def set_price(
    *,
    model: str,
    rates: Mapping[str, Any] | None = None,
    side: str = Price.Side.SELL,
    provider: str = "",
    effective_at: datetime | None = None,
    source: str = "",
    **nanos_per_million: int,
) -> Price:
    """A new price of `model` from `effective_at` (None: now) on, set by staff.

    `rates` as in `billing/catalogue/README.md`; instead or in addition, kinds of tokens in nano-dollars per million, as
    in `input=150_000_000`. Raises `rate_json.InvalidRates`, and `PriceInThePast` unless it is the model's first price.
    """
    unknown = sorted(set(nanos_per_million) - set(COMPONENTS))
    if unknown:
        raise rate_json.InvalidRates(model, unknown[0], "is not a known price")
    tokens = {name: format(Decimal(nanos) / _NANOS_PER_USD, "f") for name, nanos in nanos_per_million.items()}
    wanted = {**(rates or {}), **tokens}
    rate_json.parse(model, wanted)
    with transaction.atomic():
        now = lock()
        latest = Price.objects.of(model=model, side=side, provider=provider).first()
        if effective_at is not None and effective_at < now and latest is not None:
            raise PriceInThePast(latest)
        return Price.objects.create(
            model=model,
            side=side,
            provider=provider,
            effective_at=effective_at or now,
            rates=wanted,
            source=source,
            origin=Price.Origin.STAFF,
        )


def load(listed: Iterable[Entry], *, overrides: Iterable[Entry] = (), origin: str = Price.Origin.CATALOGUE) -> Loaded:
    """Bring the price book up to a price list and to `MODEL_PRICING_JSON` (`overrides`); running again adds nothing.

    A new row is made only where a price changed, from now on (a first price: from the list's own date on). What staff
    set stays, and what an operator's file set stays against the catalogue, until that source itself says otherwise.
    """
    listings = {listing.key: listing for entry in listed for listing in _listings(entry, origin)}
    for entry in overrides:
        for listing in _listings(entry, Price.Origin.ENVIRONMENT):
            listings[listing.key] = listing
    with transaction.atomic():
        now = lock()
        known = _newest_by_origin()
        rows = [row for listing in listings.values() if (row := _new_row(listing, known.get(listing.key, {}), now))]
        Price.objects.bulk_create(rows)
    return Loaded(added=len(rows), unchanged=len(listings) - len(rows))


def _listings(entry: Entry, origin: str) -> Iterable[_Listing]:
    if entry.rates is None:
        return
    if entry.provider:
        name = entry.upstream_names.get(entry.provider, entry.name)
        yield _Listing((name, Price.Side.COST, entry.provider), entry.rates, entry.source, origin, entry.effective_at)
    if entry.is_sold:
        yield _Listing((entry.name, Price.Side.SELL, ""), entry.rates, entry.source, origin, entry.effective_at)


def _newest_by_origin() -> dict[Key, dict[str, Price]]:
    newest: dict[Key, dict[str, Price]] = {}
    columns = ("model", "side", "provider", "origin")
    for row in Price.objects.filter(price_list="").order_by(*columns, "-effective_at").distinct(*columns):
        newest.setdefault((row.model, row.side, row.provider), {})[row.origin] = row
    return newest


def _new_row(listing: _Listing, rows: Mapping[str, Price], now: datetime) -> Price | None:
    """The row that must be added so that the right price counts; None if it does already."""
    model, side, provider = listing.key
    row = Price(model=model, side=side, provider=provider)
    if not rows:
        row.effective_at, wanted = listing.effective_at or now, listing
    else:
        latest = max(rows.values(), key=lambda price: price.effective_at)
        wanted = _wanted(listing, rows)
        if latest.rates == wanted.rates:
            return None
        row.effective_at = max(now, listing.effective_at or now)
        if latest.effective_at == row.effective_at:
            row.effective_at += datetime.resolution
    row.rates, row.source, row.origin = wanted.rates, wanted.source, wanted.origin
    return row


def _wanted(listing: _Listing, rows: Mapping[str, Price]) -> _Listing | Price:
    """Whose word counts: the list's, or what stands in the book."""
    own = rows.get(listing.origin)
    has_changed = own is None or own.rates != listing.rates
    if listing.origin == Price.Origin.ENVIRONMENT:
        staff = rows.get(Price.Origin.STAFF)
        is_overruled = staff is not None and own is not None and staff.effective_at > own.effective_at
        return staff if staff is not None and is_overruled and not has_changed else listing
    # The setting no longer names the model: what stood before counts again.
    standing = [price for price in rows.values() if price.origin != Price.Origin.ENVIRONMENT]
    if not standing:
        return listing
    newest = max(standing, key=lambda price: price.effective_at)
    if newest.origin == Price.Origin.CATALOGUE or (listing.origin == Price.Origin.FILE and has_changed):
        return listing
    return newest


def _rate(row: Price) -> Rate | None:
    """The rate of a row, parsed once a process: rows never change, and catalogues are loaded again and again."""
    version = (row.pk, row.model, row.effective_at)
    if (known := _parsed.get(version)) is not None:
        return known
    try:
        rate = rate_json.parse(row.model, row.rates, version=row.pk)
    except rate_json.InvalidRates as error:
        # Without a price the model is refused; the others must go on being sold.
        log.error("price_invalid", version=row.pk, problem=str(error))
        return None
    if len(_parsed) >= MAX_PARSED:
        _parsed.clear()
    _parsed[version] = rate
    return rate


def lock() -> datetime:
    """Let one transaction at a time set prices; the time by the database's clock."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtext(%s))", [_LOCK])
        cursor.execute("SELECT clock_timestamp()")
        return cursor.fetchone()[0]
