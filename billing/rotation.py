"""A key that is rotated leaves its budgets to its successor."""

from typing import Any

from django.db.models import F
from django.dispatch import receiver

from accounts import audit, keys
from accounts.models import ApiKey, User
from billing import budgets, ledger
from billing.models import Budget


@receiver(keys.rotated)
def carry_over(*, old: ApiKey, new: ApiKey, by: User | None, origin: audit.Origin | None, **_: Any) -> None:
    """The successor has the same caps, and has used what the key before it has: a new key is no fresh budget.

    While both work, each may use what was left then.
    """
    ledger.lock(ledger.account_of(new.organization))  # before the budgets, as admission does
    for budget in budgets.of_key(old):
        made = budgets.set_budget(
            organization=new.organization,
            scope=Budget.Scope.KEY,
            key=new,
            period=budget.period,
            cost_cap_nanos=budget.cost_cap_nanos,
            token_cap=budget.token_cap,
            observes=budget.observes,
            by=by,
            origin=origin,
        )
        if made is not None:
            cost, tokens = budget.used_cost_nanos, budget.used_tokens
            Budget.objects.filter(pk=made.pk).update(
                used_cost_nanos=F("used_cost_nanos") + cost,
                carried_cost_nanos=F("carried_cost_nanos") + cost,
                used_tokens=F("used_tokens") + tokens,
                carried_tokens=F("carried_tokens") + tokens,
            )
