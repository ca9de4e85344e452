"""Ceilings that a caller sets itself: `x-max-credits` for one call, `x-run-max-credits` for the run of `x-run-id`; and
the refusal by a ceiling that somebody set in the console.
"""

from typing import Any

from billing.money import InvalidAmount, format_credits, nanos_from_credits
from proxy.gateway.errors import BudgetExceeded, InvalidRequest
from proxy.gateway.wire import Request

OF_CALL = "x-max-credits"
OF_RUN = "x-run-max-credits"
# The page of the console on which a budget of each scope is changed.
PAGES = {"organization": "limits/", "key": "keys/", "member": "team/", "end_user": "end-users/"}


def read(request: Request, header: str) -> int | None:
    """The ceiling in nano-dollars; None if there is none. Raises `InvalidRequest`."""
    text = request.headers.get(header)
    if text is None:
        return None
    try:
        nanos = nanos_from_credits(text)
    except InvalidAmount:
        nanos = -1
    if nanos < 0:
        raise InvalidRequest(f"'{header}' must be an amount of credits, such as 2.5.", param=header)
    return nanos


def exceeded(ceiling: int, needed: int) -> BudgetExceeded:
    """The refusal of a call that may cost more than its own ceiling."""
    rule = {"id": None, "scope": "call", "subject": OF_CALL, "period": "call", "unit": "cost", "cap": ceiling}
    return BudgetExceeded(
        f"{OF_CALL} allows {format_credits(ceiling)} credits for this call, which may cost up to "
        f"{format_credits(needed)}. Raise it, or ask for a shorter answer.",
        rule=_told(rule | {"used": 0, "held": 0, "resets_at": None}),
    )


def over_budget(rule: dict[str, Any], console: str, *, nanos: int, tokens: int) -> BudgetExceeded:
    """The refusal by the budget `rule`, as the teller gives it, of what may cost so much at most; `console` is the
    address of the console."""
    told = _told(rule)
    needed = format_credits(nanos) if told["unit"] == "credits" else tokens
    resets = f" It resets at {rule['resets_at']}." if rule.get("resets_at") else ""
    page = PAGES.get(rule["scope"])
    return BudgetExceeded(
        f"The {rule['period']} budget of this {rule['scope'].replace('_', ' ')} is {told['cap']} {told['unit']}: "
        f"{told['used']} used, {told['held']} held by running requests, and this may take up to {needed}.{resets} "
        f"Change it {f'at {console}{page}' if page else f'by {OF_RUN}'}",
        rule=told,
    )


def _told(rule: dict[str, Any]) -> dict[str, Any]:
    """The rule as `/v1/key` tells budgets: cost as credits."""
    if rule["unit"] != "cost":
        return rule
    return rule | {"unit": "credits"} | {name: format_credits(rule[name]) for name in ("cap", "used", "held")}
