"""Ceilings that a caller sets itself: `x-max-credits` for one call, `x-run-max-credits` for the run of `x-run-id`."""

from billing.money import InvalidAmount, format_credits, format_usd, nanos_from_credits
from proxy.gateway.errors import BudgetExceeded, InvalidRequest
from proxy.gateway.wire import Request

OF_CALL = "x-max-credits"
OF_RUN = "x-run-max-credits"


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
        f"{OF_CALL} allows {format_credits(ceiling)} credits (${format_usd(ceiling, 4)}) for this call, which may cost "
        f"up to {format_credits(needed)}. Raise it, or ask for a shorter answer.",
        rule=rule | {"used": 0, "held": 0, "resets_at": None},
    )
