"""What this app has of an organization, for its export: every movement of its credit, every request, its limits."""

from collections.abc import Iterator

from django.db.models import Q

from accounts.exports import Row, part
from accounts.models import Organization
from billing.models import Account, AccountKind, Transfer, UsageRecord
from billing.money import format_credits

CHUNK = 2_000
_USAGE = (
    "request_id", "created_at", "key__public_id", "model", "endpoint", "outcome", "status_code", "input_tokens",
    "cached_tokens", "output_tokens", "reasoning_tokens", "audio_input_tokens", "audio_output_tokens",
    "image_input_tokens", "image_output_tokens", "cost_nanos", "latency_ms", "stream", "end_user", "run_id",
    "service_tier", "error_code", "org_label",
)  # fmt: skip


@part("transfers")
def transfers(of: Organization) -> Iterator[Row]:
    account = Account.objects.filter(organization=of, kind=AccountKind.CUSTOMER).first()
    if account is None:
        return
    rows = Transfer.objects.filter(Q(debit=account) | Q(credit=account)).order_by("pk")
    for row in rows.iterator(CHUNK):
        amount = row.amount if row.credit_id == account.pk else -row.amount
        yield {
            "id": row.pk,
            "created_at": row.created_at,
            "type": row.kind,
            "credits": format_credits(amount),
            "memo": row.memo,
        }


@part("usage")
def usage(of: Organization) -> Iterator[Row]:
    rows = UsageRecord.objects.filter(organization=of).order_by("request_id").values(*_USAGE)
    for row in rows.iterator(CHUNK):
        cost = row.pop("cost_nanos")
        key = row.pop("key__public_id")
        yield {"request_id": row.pop("request_id"), "key": key, "credits": format_credits(cost)} | row


@part("budgets")
def budgets(of: Organization) -> Iterator[Row]:
    for budget in of.budgets.select_related("key").order_by("pk").iterator(CHUNK):
        cap = budget.cost_cap_nanos
        yield {
            "scope": budget.scope,
            "subject": str(budget.key.public_id) if budget.key else budget.end_user or budget.run_id,
            "period": budget.period,
            "credits": None if cap is None else format_credits(cap),
            "tokens": budget.token_cap,
            "observes": budget.observes,
        }


@part("blocked_end_users")
def blocked_end_users(of: Organization) -> Iterator[Row]:
    rows = of.end_user_blocks.order_by("pk").values("end_user", "reason", "created_at", "expires_at")
    yield from rows.iterator(CHUNK)
