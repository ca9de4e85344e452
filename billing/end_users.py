"""Defaults for the budgets of end users: of one organization, or of the whole installation (settings)."""

import structlog
from django.conf import settings
from django.db import connection, models, transaction

from accounts import audit
from accounts.models import Organization, User
from billing import ledger
from billing.models import Account, AccountKind, Budget, EndUserDefault
from billing.money import nanos_from_usd

log = structlog.get_logger(__name__)

# Every end user seen since the period began gets the budget now, with what is used and held already: under the
# account's lock, so that no request is counted twice or not at all. Whoever comes later begins with nothing.
_ADOPT = """
WITH zone AS (
    SELECT d.*, billing_period_start(d.period, o.timezone, clock_timestamp()) AS started
    FROM accounts_organization o, billing_end_user_defaults(o.id) d
    WHERE o.id = %(organization)s AND d.period = %(period)s),
used AS (
    SELECT u.end_user, sum(u.cost_nanos) AS cost, sum(u.input_tokens + u.output_tokens) AS tokens
    FROM zone JOIN billing_usagerecord u ON u.organization_id = %(organization)s
      -- A request that ended in this period began at most a day before it.
      AND u.request_id >= billing_uuid7_floor(greatest(zone.started, '1970-01-02') - interval '1 day')
      AND u.created_at >= zone.started AND u.end_user <> ''
    GROUP BY 1),
held AS (
    SELECT h.end_user, sum(h.amount) AS cost, sum(h.tokens) AS tokens FROM billing_hold h
    WHERE h.organization_id = %(organization)s AND h.end_user <> '' GROUP BY 1),
made AS (
    INSERT INTO billing_budget (
        organization_id, scope, end_user, period, cost_cap_nanos, token_cap, observes, follows_default,
        period_started_at, used_cost_nanos, used_tokens, carried_cost_nanos, carried_tokens, held_cost_nanos,
        held_tokens)
    SELECT %(organization)s, 'end_user', coalesce(used.end_user, held.end_user), zone.period, zone.cost_cap_nanos,
        zone.token_cap, zone.observes, true, clock_timestamp(), coalesce(used.cost, 0), coalesce(used.tokens, 0),
        coalesce(used.cost, 0), coalesce(used.tokens, 0), coalesce(held.cost, 0), coalesce(held.tokens, 0)
    FROM zone, used FULL JOIN held ON held.end_user = used.end_user
    ON CONFLICT DO NOTHING RETURNING id, end_user)
UPDATE billing_hold h SET budget_ids = array_append(h.budget_ids, made.id) FROM made
WHERE h.organization_id = %(organization)s AND h.end_user = made.end_user
"""
_FOLLOW = """
UPDATE billing_budget b SET cost_cap_nanos = d.cost_cap_nanos, token_cap = d.token_cap, observes = d.observes
FROM billing_end_user_defaults(%(organization)s) d
WHERE b.organization_id = %(organization)s AND b.follows_default AND b.period = d.period AND d.period = %(period)s
"""


def set_default(
    *,
    organization: Organization,
    period: str,
    cost_cap_nanos: int | None,
    token_cap: int | None,
    observes: bool = False,
    by: User | None = None,
    origin: audit.Origin | None = None,
) -> None:
    """Cap every end user of `organization` that has no budget of its own, whoever was seen in this period at once.

    Without any cap its end users have none, also where the installation has a default.
    """
    caps = {"cost_cap_nanos": cost_cap_nanos, "token_cap": token_cap, "observes": observes}
    with transaction.atomic():
        _lock(organization)
        EndUserDefault.objects.update_or_create(organization=organization, period=period, defaults=caps)
        _apply(organization.pk, period)
        audit.record(
            action="end_user_default.set",
            target=organization,
            organization=organization,
            by=by,
            origin=origin,
            period=period,
            **caps,
        )


def forget_default(*, organization: Organization, period: str) -> None:
    """Let the installation's default count again for the end users of `organization`."""
    with transaction.atomic():
        _lock(organization)
        EndUserDefault.objects.filter(organization=organization, period=period).delete()
        _apply(organization.pk, period)


def defaults_of(organization: Organization) -> dict[str, EndUserDefault]:
    """What counts for end users without a budget of their own, by period."""
    found: dict[str, EndUserDefault] = {}
    rows = EndUserDefault.objects.filter(models.Q(organization=organization) | models.Q(organization=None))
    for row in rows.order_by(models.F("organization").desc(nulls_last=True)):
        found.setdefault(row.period, row)
    return {period: row for period, row in found.items() if not row.is_empty}


def apply_site_defaults() -> None:
    """Make `DEFAULT_MAX_COST_USD` and `DEFAULT_MAX_TOTAL_TOKENS` the month's default of every organization.

    Called by each process that starts; does nothing where the settings say what the table has already.
    """
    caps = {
        "cost_cap_nanos": nanos_from_usd(settings.DEFAULT_MAX_COST_USD) or None,
        "token_cap": settings.DEFAULT_MAX_TOTAL_TOKENS or None,
    }
    period = Budget.Period.MONTH
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended('billing.site_defaults', 0))")
        row = EndUserDefault.objects.filter(organization=None, period=period).first()
        if (row.cost_cap_nanos, row.token_cap) == tuple(caps.values()) if row else not any(caps.values()):
            return
        EndUserDefault.objects.update_or_create(organization=None, period=period, defaults=caps)
    accounts = Account.objects.filter(kind=AccountKind.CUSTOMER).order_by("pk")
    for account_id, organization_id in accounts.values_list("pk", "organization_id"):
        with transaction.atomic():
            Account.objects.select_for_update(no_key=True).get(pk=account_id)
            _apply(organization_id, period)
    log.info("site_defaults_applied", **caps)


def forget_idle() -> int:
    """Delete default budgets whose day or month is long over: the next request begins a new one. Returns how many."""
    with connection.cursor() as cursor:
        cursor.execute(
            "DELETE FROM billing_budget b WHERE b.follows_default AND b.period <> 'total' "
            "AND b.held_cost_nanos = 0 AND b.held_tokens = 0 "
            "AND b.period_started_at < clock_timestamp() - interval '62 days'"
        )
        return cursor.rowcount


def _lock(organization: Organization) -> None:
    account = ledger.account_of(organization)
    Account.objects.select_for_update(no_key=True).get(pk=account.pk)


def _apply(organization_id: int, period: str) -> None:
    """Bring the budgets that follow the default up to it; the account's lock is held."""
    with connection.cursor() as cursor:
        which = {"organization": organization_id, "period": period}
        cursor.execute("SELECT FROM billing_end_user_defaults(%(organization)s) d WHERE d.period = %(period)s", which)
        if cursor.rowcount == 0:
            Budget.objects.filter(organization=organization_id, period=period, follows_default=True).delete()
            return
        cursor.execute(_FOLLOW, which)
        cursor.execute(_ADOPT, which)
