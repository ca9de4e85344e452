"""One request of the log."""

from uuid import UUID

from django.contrib.auth.decorators import login_required
from django.contrib.sessions.backends.base import SessionBase
from django.http import Http404, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET

from accounts.access import MemberRequest, can, organization_for
from accounts.models import Organization, Role
from billing import rates, receipts, transcripts, usage
from billing.models import UsageRecord

LOOKED_AT = "looked_at_requests_of"
ENDINGS = {
    "completed": "The whole answer was delivered.",
    "client_closed": "The client left before the end; what the model produced until then was charged.",
    "upstream_cut": "The provider cut the answer off; what had arrived was charged.",
    "upstream_error": "The provider failed before it answered. Nothing was charged.",
    "timeout": "The provider took too long.",
    "rejected": "The provider refused the request. Nothing was charged.",
    "refused": "Refused before it was sent. Nothing was charged.",
    "interrupted": "The server that relayed it stopped; what had streamed until the last checkpoint was charged.",
}


def has_looked(session: SessionBase, organization: Organization) -> bool:
    """Whether this reader has opened a request of `organization` since they signed in."""
    return organization.pk in session.get(LOOKED_AT, [])


@require_GET
@login_required
def request_detail(request: MemberRequest, slug: str, request_id: UUID) -> HttpResponse:
    organization = organization_for(request, slug, Role.VIEWER)
    record = usage.one(organization, request_id)
    if record is None:
        raise Http404("no such request")
    if not has_looked(request.session, organization):
        request.session[LOOKED_AT] = [*request.session.get(LOOKED_AT, []), organization.pk]
    may_read = can(request.membership, "requests.read")
    try:
        rate = rates.rate_of(record.price_version)
    except rates.NoSuchPrice:
        rate = None
    context = {
        "organization": organization,
        "record": record,
        "total_tokens": record.input_tokens + record.output_tokens,
        "tokens": _tokens_by_kind(record),
        "receipt": receipts.receipt_of(record, rate) if rate else None,
        "how_it_ended": ENDINGS.get(record.outcome, record.outcome),
        "shows_upstream_cost": request.user.is_staff,
        "may_read": may_read,
        "has_words": may_read and transcripts.has(record),
    }
    return render(request, "billing/request_detail.html", context)


def _tokens_by_kind(record: UsageRecord) -> list[tuple[str, int]]:
    """Every kind that was counted. Indented kinds are part of the total above them."""
    rows = [("Input", record.input_tokens)]
    rows += [
        (label, count)
        for label, count in (
            ("– read from cache", record.cached_tokens),
            ("– written to cache", record.cache_write_tokens),
            ("– audio in", record.audio_input_tokens),
            ("– image in", record.image_input_tokens),
        )
        if count
    ]
    rows.append(("Output", record.output_tokens))
    rows += [
        (label, count)
        for label, count in (
            ("– reasoning", record.reasoning_tokens),
            ("– audio out", record.audio_output_tokens),
            ("– image out", record.image_output_tokens),
        )
        if count
    ]
    return rows + [(meter.replace("_", " ").capitalize(), count) for meter, count in record.units.items()]
