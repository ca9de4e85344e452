"""Price lists: prices of their own for some organizations, made from the standard ones by a markup."""

from collections.abc import Collection

from django.db import transaction
from django.db.models import F
from django.db.models.functions import Now

from accounts import audit
from accounts.models import Organization, User
from billing import rate_json, rates
from billing.models import BillingProfile, Price, PriceList
from billing.pricing import Rate

MOST = 100_000  # ten times the standard price on top
LEAST = -9_999


class BadMarkup(ValueError):
    """A markup is no whole number of hundredths of a per cent between -99.99 % and 1,000 %."""


def save(price_list: PriceList) -> PriceList:
    """Keep a list, and make its prices from now on. Raises `BadMarkup`."""
    for bps in (price_list.markup_bps, *price_list.markups.values()):
        if isinstance(bps, bool) or not isinstance(bps, int) or not LEAST <= bps <= MOST:
            raise BadMarkup
    with transaction.atomic():
        price_list.save()
        keep(price_list)
    return price_list


def keep(only: PriceList | None = None) -> int:
    """Give every list the prices that follow from the standard ones, present and coming; returns how many are new.

    May run twice. The past is not priced again: a new markup counts from now on.
    """
    with transaction.atomic():
        now = rates.lock()
        lists = [only] if only is not None else list(PriceList.objects.all())
        known = _known([one.slug for one in lists])
        made: list[Price] = []
        for standard in _standard() if lists else []:
            for price_list in lists:
                bps = price_list.markup_of(standard.model)
                if known.get((price_list.slug, standard.pk)) == bps:
                    continue
                made.append(
                    Price(
                        model=standard.model,
                        price_list=price_list.slug,
                        derived_from=standard,
                        markup_bps=bps,
                        effective_at=max(now, standard.effective_at),
                        rates=rate_json.scaled(standard.rates, bps),
                        source=f"{price_list.name}: standard price {bps / 100:+.2f} %"[:200],
                        origin=Price.Origin.LIST,
                    )
                )
        Price.objects.bulk_create(made, batch_size=500)
    return len(made)


def assign(*, organization: Organization, price_list: PriceList | None, by: User | None) -> None:
    """From now on the organization pays the prices of this list; None: the standard ones."""
    with transaction.atomic():
        BillingProfile.objects.update_or_create(organization=organization, defaults={"price_list": price_list})
        Organization.objects.filter(pk=organization.pk).update(name=F("name"))  # its keys are looked at again
        slug = price_list.slug if price_list else ""
        audit.record(action="prices.assign", target=organization, organization=organization, by=by, price_list=slug)


def slug_of(organization: Organization) -> str:
    """The list that an organization pays by; empty: the standard prices."""
    return slugs_of([organization]).get(organization.pk, "")


def slugs_of(organizations: Collection[Organization]) -> dict[int, str]:
    """The lists that several pay by, by their ids; those with the standard prices are left out."""
    profiles = BillingProfile.objects.filter(organization__in=organizations, price_list__isnull=False)
    return dict(profiles.values_list("organization_id", "price_list__slug"))


def rates_for(organization: Organization) -> dict[str, Rate]:
    """What every model costs an organization now."""
    slug = slug_of(organization)
    return rates.current_list_rates().get(slug, {}) if slug else rates.current_rates()


def _standard() -> list[Price]:
    """The standard selling prices that count now, and those that are to come."""
    selling = Price.objects.filter(side=Price.Side.SELL, price_list="")
    return [*selling.at(), *selling.filter(effective_at__gt=Now())]


def _known(slugs: list[str]) -> dict[tuple[str, int | None], int | None]:
    """The markup of the newest price of each list that was made from each standard price."""
    rows = Price.objects.filter(price_list__in=slugs)
    newest = rows.order_by("price_list", "derived_from", "-effective_at", "-pk").distinct("price_list", "derived_from")
    return {(row.price_list, row.derived_from_id): row.markup_bps for row in newest}
