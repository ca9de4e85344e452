"""Budgets: caps that admission passes in the same statement as the credit. Making and changing them."""

from typing import Any

from django.db import connection, models, transaction

from accounts import audit
from accounts.models import ApiKey, Organization, User
from billing import end_users, ledger
from billing.models import Account, Budget
from billing.money import format_credits

# What a budget made in the middle of a period has to know: what was used and is held in it already. Under the
# account's lock, so that no request can be counted twice or not at all.
_ADOPT = """
WITH budget AS (
    SELECT b.*, billing_period_start(b.period, o.timezone, clock_timestamp()) AS started
    FROM billing_budget b JOIN accounts_organization o ON o.id = b.organization_id WHERE b.id = %(id)s),
running AS (
    UPDATE billing_hold h SET budget_ids = array_append(h.budget_ids, budget.id) FROM budget
    WHERE h.organization_id = budget.organization_id AND budget.id <> ALL(coalesce(h.budget_ids, '{}'))
      AND (budget.scope = 'organization' OR budget.key_id = h.key_id
           OR budget.member_id = (SELECT k.created_by_id FROM accounts_apikey k WHERE k.id = h.key_id)
           OR (budget.scope = 'end_user' AND budget.end_user = h.end_user)
           OR (budget.scope = 'run' AND budget.run_id = h.run_id))
    RETURNING h.amount, h.tokens),
past AS (
    SELECT coalesce(sum(u.cost_nanos), 0) AS cost, coalesce(sum(u.input_tokens + u.output_tokens), 0) AS tokens
    FROM budget JOIN billing_usagerecord u ON u.organization_id = budget.organization_id
      -- A request that ended in this period began at most a day before it.
      AND u.request_id >= billing_uuid7_floor(greatest(budget.started, '1970-01-02') - interval '1 day')
      AND u.created_at >= budget.started
      AND (budget.scope = 'organization' OR budget.key_id = u.key_id
           OR u.key_id IN (SELECT k.id FROM accounts_apikey k
                           WHERE k.organization_id = budget.organization_id AND k.created_by_id = budget.member_id)
           OR (budget.scope = 'end_user' AND budget.end_user = u.end_user)
           OR (budget.scope = 'run' AND budget.run_id = u.run_id))
    WHERE budget.scope = 'run' OR budget.period <> 'total')
UPDATE billing_budget b SET
    period_started_at = clock_timestamp(),
    used_cost_nanos = past.cost, used_tokens = past.tokens,
    carried_cost_nanos = past.cost, carried_tokens = past.tokens,
    held_cost_nanos = held.cost, held_tokens = held.tokens
FROM past, (SELECT coalesce(sum(amount), 0) AS cost, coalesce(sum(tokens), 0) AS tokens FROM running) held
WHERE b.id = %(id)s
"""


def set_budget(
    *,
    organization: Organization,
    scope: str,
    period: str,
    cost_cap_nanos: int | None,
    token_cap: int | None,
    key: ApiKey | None = None,
    member: User | None = None,
    end_user: str = "",
    run_id: str = "",
    observes: bool = False,
    by: User | None = None,
    origin: audit.Origin | None = None,
) -> Budget | None:
    """Set the caps of one budget, made if it is new; without any cap it is removed and None is returned.

    A new one counts what its running period has used already (for `total`: only of a run; else it begins at zero).
    One that `observes` counts and never refuses. An end user without a budget of its own follows the default, if any.
    The same again changes nothing and is not audited.
    """
    which = {
        "organization": organization,
        "scope": scope,
        "period": period,
        "key": key,
        "member": member,
        "end_user": end_user,
        "run_id": run_id,
    }
    account = ledger.account_of(organization)
    with transaction.atomic():
        Account.objects.select_for_update(no_key=True).get(pk=account.pk)
        caps: dict[str, Any] = {"cost_cap_nanos": cost_cap_nanos, "token_cap": token_cap, "observes": observes}
        found = Budget.objects.filter(**which).first()
        if found is None and cost_cap_nanos is None and token_cap is None:
            return None
        if found is not None and not found.follows_default and all(getattr(found, cap) == caps[cap] for cap in caps):
            return found
        audit.record(
            action="budget.set",
            target=key or organization,
            organization=organization,
            by=by,
            origin=origin,
            scope=scope,
            period=period,
            subject=end_user or run_id or (str(member.public_id) if member else ""),
            credits=None if cost_cap_nanos is None else format_credits(cost_cap_nanos),
            tokens=token_cap,
            observes=observes,
        )
        if cost_cap_nanos is None and token_cap is None:
            default = end_users.defaults_of(organization).get(period) if scope == Budget.Scope.END_USER else None
            if default is None:
                Budget.objects.filter(**which).delete()
                return None
            caps = {
                "cost_cap_nanos": default.cost_cap_nanos,
                "token_cap": default.token_cap,
                "observes": default.observes,
            }
            Budget.objects.filter(**which).update(**caps, follows_default=True)
            return Budget.objects.filter(**which).first()
        budget, is_new = Budget.objects.update_or_create(**which, defaults=caps | {"follows_default": False})
        if is_new:
            with connection.cursor() as cursor:
                cursor.execute(_ADOPT, {"id": budget.pk})
        budget.refresh_from_db()
        return budget


def set_for_key(
    *,
    key: ApiKey,
    period: str,
    cost_cap_nanos: int | None,
    token_cap: int | None,
    by: User | None = None,
    origin: audit.Origin | None = None,
) -> Budget | None:
    """Set the caps of a key for each day or month; without any cap the budget is removed."""
    return set_budget(
        organization=key.organization,
        scope=Budget.Scope.KEY,
        key=key,
        period=period,
        cost_cap_nanos=cost_cap_nanos,
        token_cap=token_cap,
        by=by,
        origin=origin,
    )


def of_key(key: ApiKey) -> models.QuerySet[Budget]:
    """The budgets of a key, with what they have used in the period that runs now."""
    return _current(Budget.objects.filter(key=key))


def _current(budgets: models.QuerySet[Budget]) -> models.QuerySet[Budget]:
    """Show a period that is over as unused: the next request begins the new one."""
    organization_ids = list(budgets.values_list("organization_id", flat=True).distinct())
    with transaction.atomic(), connection.cursor() as cursor:
        ids = list(budgets.order_by("pk").values_list("pk", flat=True)) if organization_ids else []
        if ids:
            cursor.execute("SELECT billing_lock_budgets(%s, clock_timestamp())", [ids])
    return budgets.order_by("period", "pk")
