"""Telling of budgets that come to their end: at 80 and 95 per cent, and when they refuse. Once a period and level."""

from dataclasses import dataclass
from datetime import datetime

from django.conf import settings
from django.db import connection, transaction

from accounts import events, letters
from accounts.models import Role
from billing.models import Budget, BudgetWarning
from billing.money import format_credits

LEVELS = (80, 95, 100)
BATCH = 500

# Only of the present period: what was used in one that is over binds nobody.
_REACHED = """
SELECT b.id, b.organization_id, p.started, level.percent
FROM billing_budget b
JOIN accounts_organization o ON o.id = b.organization_id
CROSS JOIN LATERAL (SELECT billing_period_start(b.period, o.timezone, clock_timestamp()) AS started) p
CROSS JOIN LATERAL (
    SELECT max(l) AS percent FROM unnest(%(levels)s::int[]) l
    WHERE b.used_cost_nanos::numeric * 100 >= b.cost_cap_nanos::numeric * l
       OR b.used_tokens::numeric * 100 >= b.token_cap::numeric * l) level
WHERE b.period_started_at >= p.started AND level.percent IS NOT NULL
  AND NOT EXISTS (
    SELECT FROM billing_budgetwarning w
    WHERE w.budget_id = b.id AND w.period_started_at = p.started AND w.level >= level.percent)
ORDER BY b.id LIMIT %(batch)s
"""


@dataclass(frozen=True, slots=True)
class Reached:
    """A budget at `level` per cent of one of its caps, in the period that began at `started`."""

    budget_id: int
    organization_id: int
    started: datetime
    level: int


def warn() -> int:
    """Write an event for each budget that has reached a new level, and mail the admins of its organization.

    Of end users and runs there are events only. Returns how many were told of; may run twice at a time.
    """
    with connection.cursor() as cursor:
        cursor.execute(_REACHED, {"levels": list(LEVELS), "batch": BATCH})
        found = [Reached(*row) for row in cursor.fetchall()]
    return sum(_tell(reached) for reached in found)


def _tell(reached: Reached) -> bool:
    with transaction.atomic():
        _, is_new = BudgetWarning.objects.get_or_create(
            budget_id=reached.budget_id, period_started_at=reached.started, level=reached.level
        )
        budget = Budget.objects.select_related("organization", "key", "member").filter(pk=reached.budget_id).first()
        if not is_new or budget is None:
            return False
        kind = "budget.exceeded" if reached.level == LEVELS[-1] else "budget.warning"
        events.record(organization=budget.organization, kind=kind, data=_data(budget, reached.level))
    if budget.scope in {Budget.Scope.ORGANIZATION, Budget.Scope.KEY, Budget.Scope.MEMBER}:
        _mail(budget, reached.level)
    return True


def _data(budget: Budget, level: int) -> dict[str, object]:
    def credits_of(nanos: int | None) -> str | None:
        return None if nanos is None else format_credits(nanos)

    return {
        "scope": budget.scope,
        "subject": _subject(budget),
        "period": budget.period,
        "percent": level,
        "observes": budget.observes,
        "cost": {"used": credits_of(budget.used_cost_nanos), "cap": credits_of(budget.cost_cap_nanos)},
        "tokens": {"used": budget.used_tokens, "cap": budget.token_cap},
    }


def _subject(budget: Budget) -> str:
    if budget.member:
        return budget.member.email
    return budget.key.name if budget.key else budget.end_user or budget.run_id


def _mail(budget: Budget, level: int) -> None:
    organization = budget.organization
    whose = f"the key “{_subject(budget)}”" if budget.key else "the organization"
    whose = _subject(budget) if budget.member else whose
    state = "used up" if level == LEVELS[-1] else f"used to {level} %"
    then = "" if level < LEVELS[-1] or budget.observes else "\n\nRequests that it covers are refused until it resets."
    letters.send(
        organization,
        roles=[Role.OWNER, Role.ADMIN],
        subject=f"{organization.name}: the {budget.period} budget of {whose} is {state}",
        text=f"The {budget.period} budget of {whose} in {organization.name} is {state}.{then}\n\n"
        f"Change it at {settings.SITE_URL}/o/{organization.slug}/limits/\n",
        failure="budget_mail_not_sent",
    )
