"""Every limit that a request would meet, whether it binds, and why."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from django.conf import settings

from billing import blocks, ledger, standings
from billing.models import Account
from billing.money import format_credits
from proxy.api.answers import cap_as_dict, moment
from proxy.api.authentication import Caller
from proxy.api.quoting import Quote
from proxy.api.throttling import peek
from proxy.gateway import ceilings, labels
from proxy.gateway.admission import MIN_OUTPUT_TOKENS
from proxy.gateway.wire import Request


@dataclass(frozen=True, slots=True)
class Limit:
    """One limit: `kind` for programs, `why` for people, and its figures. The error's `code` is what the call gets."""

    kind: str
    binds: bool
    why: str
    code: str = ""
    figures: dict[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        told = {"limit": self.kind, "binds": self.binds, "why": self.why, "code": self.code if self.binds else None}
        return told | self.figures


@dataclass(frozen=True, slots=True)
class Identity:
    """For whom a request is: the tenant's end user, the run that it belongs to, and the caller's own ceilings."""

    end_user: str = ""
    run_id: str = ""
    max_nanos: int | None = None
    run_max_nanos: int | None = None


def identity_of(request: Request, end_user: str = "") -> Identity:
    """From the headers, as the gateway reads them; `end_user` is what the body says."""
    return Identity(
        end_user=(labels.read(request, labels.END_USER) or end_user)[: labels.MAX_LABEL],
        run_id=labels.read(request, labels.RUN),
        max_nanos=ceilings.read(request, ceilings.OF_CALL),
        run_max_nanos=ceilings.read(request, ceilings.OF_RUN),
    )


def of_quote(caller: Caller, quote: Quote, who: Identity) -> list[Limit]:
    """What the quoted request would meet if it were sent now with this key, in the order of the gateway's checks."""
    return [
        *_allow_lists(caller, quote),
        *_rates(caller, quote.counted_tokens),
        *of_account(caller, needed=quote.hold_nanos, quote=quote),
        *of_subject(caller, who, cost=quote.hold_nanos, tokens=quote.hold_tokens),
        *_ceilings(who, quote.hold_nanos),
    ]


def of_subject(caller: Caller, who: Identity, *, cost: int, tokens: int) -> Iterator[Limit]:
    """The block and the budgets that a request of `cost` and `tokens` by `who` would meet."""
    block = blocks.find(caller.organization, who.end_user)
    if block is not None:
        until = f" until {moment(block.expires_at)}" if block.expires_at else ""
        figures = {"reason": block.reason, "expires_at": moment(block.expires_at)}
        yield Limit("block", True, f"The end user is blocked{until}: {block.reason}", "user_blocked", figures)
    caps = standings.caps_of(caller.organization, key=caller.row, end_user=who.end_user, run_id=who.run_id)
    for cap in caps:
        amount = cost if cap.unit == "cost" else tokens
        binds = cap.binds(amount)
        name = f"The {cap.period} budget of this {cap.scope.replace('_', ' ')}"
        if cap.unit == "cost":
            left, needed = f"{format_credits(cap.left)} credits", f"{format_credits(amount)}"
        else:
            left, needed = f"{cap.left} tokens", str(amount)
        why = f"{name} has {left} left; the request may need {needed}."
        if cap.observes:
            why = f"{name} only observes."
        yield Limit("budget", binds, why, "budget_exceeded", cap_as_dict(cap))


def _allow_lists(caller: Caller, quote: Quote) -> Iterator[Limit]:
    key, path = caller.key, quote.endpoint.path
    if key.scopes:
        binds = quote.endpoint.scope not in key.scopes
        why = f"The key {'lacks' if binds else 'has'} the scope {quote.endpoint.scope!r}."
        yield Limit("scopes", binds, why, "scope_missing")
    if key.allowed_endpoints:
        binds = path not in key.allowed_endpoints
        why = f"The key may {'not ' if binds else ''}use {path}."
        yield Limit("allowed_endpoints", binds, why, "endpoint_not_allowed")
    if key.allowed_models:
        binds = not key.allowed_models.intersection({quote.job.model, quote.route.model})
        why = f"The key may {'not ' if binds else ''}use the model {quote.job.model!r}."
        yield Limit("allowed_models", binds, why, "model_not_allowed")
        if quote.images is not None:
            binds = not key.allowed_models.intersection({quote.images.job.model, quote.images.route.model})
            why = f"The key may {'not ' if binds else ''}use the image model {quote.images.job.model!r}."
            yield Limit("allowed_models", binds, why, "model_not_allowed")


def _rates(caller: Caller, tokens: int) -> Iterator[Limit]:
    key = caller.key
    rpm = settings.DEFAULT_RPM if key.rpm is None else key.rpm
    for scope, who, requests, most in (
        ("key", key.id, rpm, key.tpm or 0),
        ("organization", f"o{key.organization_id}", key.organization_rpm, key.organization_tpm),
    ):
        for cell in peek(who, rpm=requests, tpm=most, tokens=tokens):
            why = f"{cell.remaining} of {cell.limit} {cell.unit} per minute are left; the request counts {cell.cost}."
            figures = {"scope": scope, "unit": cell.unit, "cap": cell.limit, "left": cell.remaining}
            yield Limit("rate", cell.cost > cell.remaining, why, "rate_limit_exceeded", figures)


def of_account(caller: Caller, *, needed: int, quote: Quote | None = None) -> Iterator[Limit]:
    """Whether the organization's account is open and has `needed` nano-dollars."""
    account = ledger.account_of(caller.organization)
    if account.status != Account.Status.OPEN:
        yield Limit("account", True, "The organization's account is frozen.", "account_frozen")
    if settings.IS_SELF_HOSTED:
        return
    available = account.available
    figures: dict[str, Any] = {"available": format_credits(available), "needed": format_credits(needed)}
    binds = needed > available
    why = f"{figures['available']} credits are available; the request may cost up to {figures['needed']}."
    if binds and quote is not None and quote.is_open_ended:
        affordable = quote.affordable_outputs(available)
        if affordable >= MIN_OUTPUT_TOKENS:
            binds = False
            figures["output_tokens_capped_to"] = affordable
            why += f" It sets no limit of its own, so its answer would be cut at {affordable} tokens."
    yield Limit("credit", binds, why, "insufficient_quota", figures)


def _ceilings(who: Identity, hold: int) -> Iterator[Limit]:
    for kind, header, ceiling in (
        ("max_credits", "x-max-credits", who.max_nanos),
        ("run_max_credits", "x-run-max-credits", who.run_max_nanos if who.run_id else None),
    ):
        if ceiling is not None:
            why = f"{header} allows {format_credits(ceiling)} credits; "
            why += f"the request may cost up to {format_credits(hold)}."
            yield Limit(kind, hold > ceiling, why, "budget_exceeded", {"cap": format_credits(ceiling)})
