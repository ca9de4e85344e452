"""`/v1/usage/stats`, `logs` and `daily`: what the organization of a key used. Days are days of UTC, both included."""

import csv
import io
from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID

from django.http import HttpResponse
from rest_framework.decorators import api_view, permission_classes
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.models import ApiKey, Organization
from billing import reports, request_log, statements
from billing.models import UsageRecord
from billing.reports import MAX_DAYS, Span, Sums, Which
from billing.request_log import Filter
from billing.usage_forms import STATUSES
from proxy.api import numbers
from proxy.api.answers import moment, money
from proxy.api.authentication import Caller, Member, may
from proxy.api.credits import amount_of
from proxy.api.errors import NotFound
from proxy.gateway.errors import InvalidRequest

DEFAULT_DAYS = 30
DEFAULT_LIMIT, MAX_LIMIT = 50, 1_000
MAX_TEXT = 256
FIRST_DAY, LAST_DAY = date(2020, 1, 1), date(2100, 1, 1)
_LOGGED = [
    *("id", "created_at", "model", "endpoint", "outcome", "status_code", "error_code", "key", "key_name", "end_user"),
    *("run_id", "stream", "input_tokens", "cached_tokens", "output_tokens", "reasoning_tokens", "total_tokens"),
    *("credits", "usd", "latency_ms", "ttft_ms", "estimated", "service_tier", "upstream", "org_label"),
]


@api_view(["GET"])
@permission_classes([may("usage.view")])
def stats(request: Request) -> HttpResponse:
    """The sums of the days, and how they divide by model, key, endpoint and end user."""
    caller: Caller | Member = request.user
    span, which = _span(request), _which(request)
    found = reports.total(caller.organization, span, which)
    parts = {
        "model": reports.by(caller.organization, span, which, "model"),
        "key": reports.by(caller.organization, span, which, "key"),
        "endpoint": reports.by(caller.organization, span, which, "endpoint"),
        "end_user": reports.by(caller.organization, span, which, "end_user"),
    }
    names = _key_names(parts["key"])
    told = {
        "by_model": [{"model": name} | _sums(sums) for name, sums in parts["model"].items()],
        "by_key": [_key(pk, names) | _sums(sums) for pk, sums in parts["key"].items()],
        "by_endpoint": [{"endpoint": name} | _sums(sums) for name, sums in parts["endpoint"].items()],
        "by_end_user": [
            {"end_user": name or None} | _sums(sums, has_latency=False) for name, sums in parts["end_user"].items()
        ],
    }
    if _wants_csv(request):
        rows = [{"by": "total", "name": ""} | _sums(found)]
        for group in parts:
            name = "key_name" if group == "key" else group
            rows += [{"by": group, "name": row[name] or ""} | row for row in told[f"by_{group}"]]
        return _csv(["by", "name", *_sums(found)], rows)
    return Response({"object": "usage_stats"} | _days(span) | _sums(found) | told)


@api_view(["GET"])
@permission_classes([may("usage.view")])
def daily(request: Request) -> HttpResponse:
    """The sums of each day, the oldest first; days without requests are there, with zeros."""
    caller: Caller | Member = request.user
    span = _span(request)
    found = reports.daily(caller.organization, span, _which(request))
    rows = [{"date": day.isoformat()} | _sums(sums) for day, sums in found.items()]
    if _wants_csv(request):
        return _csv(list(rows[0]), rows)
    return Response({"object": "list"} | _days(span) | {"data": rows})


@api_view(["GET"])
@permission_classes([may("usage.view")])
def logs(request: Request) -> HttpResponse:
    """Requests, the newest first: cursor pages by `after`.

    A page may be short and still have a next one: it looks at a bounded number of requests.
    """
    caller: Caller | Member = request.user
    limit = numbers.between(
        request, "limit", MAX_LIMIT, DEFAULT_LIMIT, f"'limit' must be a number from 1 to {MAX_LIMIT}."
    )
    page = request_log.page(
        organization=caller.organization,
        which=_filter(request),
        before=_cursor(request.query_params.get("after", "")),
        size=limit,
    )
    rows = [_record(record) for record in page.records]
    if _wants_csv(request):
        answer = _csv(_LOGGED, rows)
        if page.older is not None:
            answer["x-next"] = f"req_{page.older.hex}"
        return answer
    following = f"req_{page.older.hex}" if page.older else None
    return Response({"object": "list", "data": rows, "has_more": following is not None, "next": following})


def day_of(text: str, name: str) -> date | None:
    """A calendar day of the query. Raises `InvalidRequest`."""
    if not text:
        return None
    try:
        day = date.fromisoformat(text)
    except ValueError:
        day = date.min
    if not FIRST_DAY <= day < LAST_DAY:
        raise InvalidRequest(f"'{name}' must be a day such as 2026-11-20.", param=name)
    return day


def span_of(query: Any) -> Span:
    """The days `start` to `end` of a query, by default the last thirty (UTC). Raises `InvalidRequest`."""
    last = day_of(query.get("end", ""), "end") or datetime.now(UTC).date()
    first = day_of(query.get("start", ""), "start") or last - timedelta(days=DEFAULT_DAYS - 1)
    if first > last:
        raise InvalidRequest("'start' must not be after 'end'.", param="start")
    if (last - first).days >= MAX_DAYS:
        raise InvalidRequest(f"At most {MAX_DAYS} days at once.", param="start")
    return Span(first, last)


def _span(request: Request) -> Span:
    return span_of(request.query_params)


def _which(request: Request) -> Which:
    names = {name: _text(request, name) for name in ("model", "endpoint", "end_user")}
    return Which(key_ids=_key_ids(request), **names)


def _filter(request: Request) -> Filter:
    query = request.query_params
    which = _which(request)
    outcome, status = query.get("outcome", ""), query.get("status", "")
    if outcome and outcome not in request_log.OUTCOME_GROUPS:
        raise InvalidRequest(f"'outcome' must be one of {', '.join(request_log.OUTCOME_GROUPS)}.", param="outcome")
    if status and status not in dict(STATUSES) and not (status.isascii() and status.isdigit() and len(status) == 3):
        raise InvalidRequest("'status' must be a status code, or its first digit.", param="status")
    return Filter(
        first_day=day_of(query.get("start", ""), "start"),
        last_day=day_of(query.get("end", ""), "end"),
        key_ids=which.key_ids,
        model=which.model,
        endpoint=which.endpoint,
        end_user=which.end_user,
        org_label=_text(request, "org_label"),
        outcome=outcome,
        status=int(status) if status else None,
        min_cost_nanos=amount_of(query["min_credits"], "min_credits") if query.get("min_credits") else None,
        zone="UTC",
    )


def _text(request: Request, name: str) -> str:
    value: str = request.query_params.get(name, "")
    if len(value) > MAX_TEXT or "\0" in value:
        raise InvalidRequest(f"'{name}' must be a text of at most {MAX_TEXT} characters.", param=name)
    return value


def _key_ids(request: Request) -> tuple[int, ...] | None:
    text = request.query_params.get("key", "")
    if not text:
        return None
    organization: Organization = request.user.organization
    try:
        pk = organization.keys.filter(public_id=UUID(text)).values_list("pk", flat=True).first()
    except ValueError:
        pk = None
    if pk is None:
        raise NotFound("There is no such key: 'key' is the id of one.", param="key")
    return (pk,)


def _cursor(text: str) -> UUID | None:
    try:
        return UUID(text.removeprefix("req_")) if text else None
    except ValueError:
        raise InvalidRequest("'after' must be the id of a request.", param="after") from None


def _wants_csv(request: Request) -> bool:
    wanted = request.query_params.get("format", "json")
    if wanted not in {"json", "csv"}:
        raise InvalidRequest("'format' must be 'json' or 'csv'.", param="format")
    return bool(wanted == "csv")


def _days(span: Span) -> dict[str, str]:
    return {"start": span.first.isoformat(), "end": span.last.isoformat()}


def _sums(sums: Sums, *, has_latency: bool = True) -> dict[str, Any]:
    told = {
        "requests": sums.requests,
        "errors": sums.errors,
        "input_tokens": sums.input_tokens,
        "cached_tokens": sums.cached_tokens,
        "output_tokens": sums.output_tokens,
        "reasoning_tokens": sums.reasoning_tokens,
        "total_tokens": sums.tokens,
        **money(sums.cost_nanos),
    }
    return told | ({"latency_p50_ms": sums.p50_ms, "latency_p95_ms": sums.p95_ms} if has_latency else {})


def _key_names(key_ids: Iterable[int | None]) -> dict[int, ApiKey]:
    return ApiKey.objects.in_bulk([pk for pk in key_ids if pk is not None])


def _key(pk: int | None, names: dict[int, ApiKey]) -> dict[str, str | None]:
    key = names.get(pk) if pk is not None else None
    return {"key": str(key.public_id) if key else None, "key_name": key.name if key else None}


def _record(record: UsageRecord) -> dict[str, Any]:
    key = record.key
    return {
        "id": f"req_{record.request_id.hex}",
        "object": "usage_log",
        "created_at": moment(record.created_at),
        "model": record.model,
        "endpoint": record.endpoint,
        "outcome": record.outcome,
        "status_code": record.status_code,
        "error_code": record.error_code or None,
        "key": str(key.public_id) if key else None,
        "key_name": key.name if key else None,
        "end_user": record.end_user or None,
        "run_id": record.run_id or None,
        "stream": record.stream,
        "input_tokens": record.input_tokens,
        "cached_tokens": record.cached_tokens,
        "output_tokens": record.output_tokens,
        "reasoning_tokens": record.reasoning_tokens,
        "total_tokens": record.input_tokens + record.output_tokens,
        **money(record.cost_nanos),
        "latency_ms": record.latency_ms,
        "ttft_ms": record.ttft_ms,
        "estimated": record.estimated,
        "service_tier": record.service_tier or None,
        "upstream": record.deployment or None,
        "org_label": record.org_label or None,
    }


def _csv(names: list[str], rows: Iterable[dict[str, Any]]) -> HttpResponse:
    out = io.StringIO()
    writer = csv.DictWriter(out, names, extrasaction="ignore", restval="")
    writer.writeheader()
    for row in rows:
        writer.writerow({name: statements.plain(v) if isinstance(v, str) else v for name, v in row.items()})
    return HttpResponse(out.getvalue(), content_type="text/csv; charset=utf-8")
