"""The usage page of an organization: what its days, models, keys, members and end users cost."""

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from typing import Any
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

from django.contrib.auth.decorators import login_required
from django.http import HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils.cache import patch_vary_headers
from django.views.decorators.http import require_safe

from accounts.access import MemberRequest, organization_for
from accounts.models import ApiKey, Organization, Role
from billing import charts, money, reports
from billing.charts import Chart, Point
from billing.reports import NOTHING, Span, Sums, Which
from billing.statements import plain
from billing.usage_forms import UsageForm, member_id

SHOWN_MODELS = 6
SHOWN_ROWS = 10
PRESETS = (("7 days", 7), ("30 days", 30), ("90 days", 90))


@dataclass(frozen=True, slots=True)
class Line:
    """A name and its sums before they are shown; `query` is what narrows the filters to it."""

    name: str
    sums: Sums
    query: dict[str, str] = field(default_factory=dict)
    note: str = ""


@dataclass(frozen=True, slots=True)
class Share:
    """One line of a breakdown; `query` narrows the page to it, `log` is the address of its requests."""

    name: str
    note: str
    sums: Sums
    percent: int
    query: str
    log: str


@dataclass(frozen=True, slots=True)
class Breakdown:
    """How the total divides by one dimension. `more` is how many lines are not shown."""

    id: str
    title: str
    head: str
    shares: list[Share]
    more: int = 0
    has_latency: bool = False
    all_url: str = ""

    @property
    def total(self) -> int:
        return len(self.shares) + self.more


@dataclass(frozen=True, slots=True)
class Change:
    """A figure against the period before: in words, and whether it got worse."""

    text: str
    is_worse: bool = False


@dataclass(frozen=True, slots=True)
class Asked:
    """What the page is asked for; makes addresses of requests and of this page that keep its filters."""

    organization: Organization
    span: Span
    which: Which
    kept: dict[str, str]

    @property
    def may_divide_by_end_user(self) -> bool:
        """Only the rollups know of end users and something else, and there may be as many of them as requests."""
        return self.which.dimensions <= {"end_user"}

    def log(self, first: date | None = None, last: date | None = None, **more: str) -> str:
        """The requests of these days, of all by default."""
        days = {"first_day": (first or self.span.first).isoformat(), "last_day": (last or self.span.last).isoformat()}
        return f"{reverse('billing:request-list', args=[self.organization.slug])}?{urlencode(days | self.kept | more)}"

    def page(self, **more: str) -> str:
        days = {"first_day": self.span.first.isoformat(), "last_day": self.span.last.isoformat()}
        return urlencode(days | self.kept | more)


@require_safe
@login_required
def usage(request: MemberRequest, slug: str) -> HttpResponse:
    form, asked, today = _asked(request, slug)
    days = reports.daily(asked.organization, asked.span, asked.which)
    before = reports.daily(asked.organization, asked.span.previous, asked.which)
    total, earlier = sum(days.values(), NOTHING), sum(before.values(), NOTHING)
    context = {
        "organization": asked.organization,
        "form": form,
        "span": asked.span,
        "previous": asked.span.previous,
        "total": total,
        "changes": _changes(total, earlier),
        "charts": _charts(asked, days, before) if total.requests else [],
        "breakdowns": _breakdowns(asked) if total.requests else [],
        "presets": [
            (label, _preset(asked, today, length), _is(asked.span, today, length)) for label, length in PRESETS
        ],
        "query": asked.page(),
        "log": asked.log(),
        "is_filtered": bool(asked.kept),
        "may_report": request.membership.role in {Role.OWNER, Role.ADMIN},
        "has_latency": not asked.which.end_user,
        "has_end_users": asked.may_divide_by_end_user,
    }
    template = "billing/usage.html#report" if request.htmx else "billing/usage.html"
    response = render(request, template, context)
    patch_vary_headers(response, ["HX-Request"])
    return response


@require_safe
@login_required
def usage_end_users(request: MemberRequest, slug: str) -> HttpResponse:
    """Who of the tenant's own users cost most: a part of the usage page, which need not wait for it, or a page."""
    _, asked, _ = _asked(request, slug)
    found = reports.by(asked.organization, asked.span, asked.which, "end_user") if asked.may_divide_by_end_user else {}
    lines = [Line(name or "none named", sums, {"end_user": name} if name else {}) for name, sums in found.items()]
    part = _breakdown(
        "end-users",
        "End users",
        "End user",
        lines,
        asked,
        most=SHOWN_ROWS if request.htmx else reports.TOP,
        whole=reports.total(asked.organization, asked.span, asked.which),
    )
    if part.more:
        part = replace(part, all_url=f"{request.path}?{asked.page()}")
    context = {"organization": asked.organization, "span": asked.span, "query": asked.page(), "part": part}
    template = "billing/breakdown.html" if request.htmx else "billing/usage_end_users.html"
    response = render(request, template, context)
    patch_vary_headers(response, ["HX-Request"])
    return response


@require_safe
@login_required
def usage_file(request: MemberRequest, slug: str) -> HttpResponse:
    """The days of the usage page as CSV, amounts in credits."""
    _, asked, _ = _asked(request, slug)
    span = asked.span
    days = reports.daily(asked.organization, span, asked.which)
    names = ["day", "requests", "errors", "input_tokens", "output_tokens", "credits", "p50_ms", "p95_ms"]
    rows = (
        [
            *(day, s.requests, s.errors, s.input_tokens, s.output_tokens),
            *(money.format_credits(s.cost_nanos), s.p50_ms, s.p95_ms),
        ]
        for day, s in days.items()
    )
    return csv_of(f"usage-{slug}-{span.first}-{span.last}.csv", names, rows)


def csv_of(name: str, head: Sequence[str], rows: Iterable[Sequence[Any]]) -> HttpResponse:
    """A file to download; no text in it is taken for a formula."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(head)
    writer.writerows([plain(cell) if isinstance(cell, str) else cell for cell in row] for row in rows)
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return HttpResponse(out.getvalue(), content_type="text/csv; charset=utf-8", headers=headers)


def _asked(request: MemberRequest, slug: str) -> tuple[UsageForm, Asked, date]:
    """The form, what it asks for, and the organization's today."""
    organization = organization_for(request, slug, Role.VIEWER)
    form = UsageForm(request.GET, organization=organization)
    today = datetime.now(ZoneInfo(organization.timezone)).date()
    kept = {name: request.GET[name] for name in form.given if name not in {"first_day", "last_day"}}
    return form, Asked(organization, form.span(today), form.which(), kept), today


def _preset(asked: Asked, today: date, length: int) -> str:
    return urlencode(asked.kept | {"first_day": str(today - timedelta(days=length - 1)), "last_day": str(today)})


def _is(span: Span, today: date, length: int) -> bool:
    return span.last == today and span.first == today - timedelta(days=length - 1)


def _changes(total: Sums, earlier: Sums) -> dict[str, Change]:
    """What differs from the period before, by figure; nothing where nothing was used then."""
    if not earlier.requests:
        return {}
    return {
        "cost": _change(total.cost_nanos, earlier.cost_nanos),
        "requests": _change(total.requests, earlier.requests),
        "tokens": _change(total.tokens, earlier.tokens),
        "errors": _change(total.error_percent, earlier.error_percent, lower_is_better=True),
        "p50": _change(total.p50_ms, earlier.p50_ms, lower_is_better=True),
        "p95": _change(total.p95_ms, earlier.p95_ms, lower_is_better=True),
    }


def _change(now: float | None, before: float | None, *, lower_is_better: bool = False) -> Change:
    if now is None or not before:
        return Change("none before" if now else "")
    percent = round(100 * (now - before) / before)
    if not percent:
        return Change("as before")
    return Change(f"{percent:+,} %".replace("-", "−"), is_worse=lower_is_better and percent > 0)


def _charts(asked: Asked, days: dict[date, Sums], before: dict[date, Sums]) -> list[Chart]:
    points, earlier = charts.points_of(days), charts.points_of(before)
    shape: dict[str, Any] = {
        "labels": [point.label for point in points],
        "links": [asked.log(point.first, point.last) for point in points],
        "head": "Day" if points[0].first == points[0].last else "Week",
    }
    sums = [point.sums for point in points]
    cost = _cost_by_model(reports.daily_by(asked.organization, asked.span, asked.which, "model"), points)
    cost.append(
        charts.cost_series("Period before", [point.sums.cost_nanos for point in earlier], 0, kind="line"),
    )
    found = [
        Chart("cost", "Cost by model", series=cost, unit="credits", note="In credits.", **shape),
        Chart(
            "tokens",
            "Tokens",
            series=[
                charts.count_series("Input", [one.input_tokens for one in sums], 1),
                charts.count_series("Output", [one.output_tokens for one in sums], 2),
            ],
            **shape,
        ),
        Chart(
            "requests",
            "Requests",
            series=[
                charts.count_series("Answered", [one.answered for one in sums], 1, query="outcome=completed"),
                charts.count_series("Without a whole answer", [one.errors for one in sums], 8, query="outcome=errors"),
            ],
            **shape,
        ),
    ]
    if not asked.which.end_user:
        note = "Of whole answers, until their last byte: half came within p50, 95 of 100 within p95."
        lines = [
            charts.latency_series("p50", points, lambda one: one.p50_ms, 1),
            charts.latency_series("p95", points, lambda one: one.p95_ms, 2),
        ]
        found.append(Chart("latency", "Response time", series=lines, unit="ms", note=note, **shape))
    return found


def _cost_by_model(amounts: dict[tuple[date, str], int], points: list[Point]) -> list[charts.Series]:
    """One series for each of the dearest models, one for all others."""
    totals: dict[str, int] = {}
    for (_, name), nanos in amounts.items():
        totals[name] = totals.get(name, 0) + nanos
    ranked = sorted(totals, key=lambda name: (-totals[name], name))
    shown, rest = ranked[:SHOWN_MODELS], ranked[SHOWN_MODELS:]
    series = [
        charts.cost_series(name, charts.bucketed(points, amounts, name), number + 1, query=urlencode({"model": name}))
        for number, name in enumerate(shown)
    ]
    if rest:
        others = [sum(parts) for parts in zip(*(charts.bucketed(points, amounts, name) for name in rest), strict=True)]
        series.append(charts.cost_series(f"{len(rest)} more", others, SHOWN_MODELS + 1))
    return series


def _breakdowns(asked: Asked) -> list[Breakdown]:
    organization, span, which = asked.organization, asked.span, asked.which
    models = reports.by(organization, span, which, "model")
    by_key = reports.by(organization, span, which, "key", has_latency=False)
    keys = ApiKey.objects.select_related("created_by").in_bulk([pk for pk in by_key if pk is not None])
    endpoints = reports.by(organization, span, which, "endpoint", has_latency=False)
    of_models = [Line(name, sums, {"model": name}) for name, sums in models.items()]
    of_endpoints = [Line(name, sums, {"endpoint": name}) for name, sums in endpoints.items()]
    of_keys = [_of_key(keys.get(pk or 0), sums) for pk, sums in by_key.items()]
    return [
        _breakdown("models", "Models", "Model", of_models, asked),
        _breakdown("keys", "Keys", "Key", of_keys, asked),
        _breakdown("members", "Members", "Maker of the key", _of_members(by_key, keys), asked),
        _breakdown("endpoints", "Endpoints", "Endpoint", of_endpoints, asked),
    ]


def _breakdown(
    name: str, title: str, head: str, rows: list[Line], asked: Asked, *, most: int = SHOWN_ROWS, whole: Sums = NOTHING
) -> Breakdown:
    """The dearest rows as shares of the `whole`, by default their own sum; of requests where nothing cost anything."""
    cost = whole.cost_nanos or sum(line.sums.cost_nanos for line in rows)
    requests = whole.requests or sum(line.sums.requests for line in rows) or 1
    shares = [
        Share(
            line.name,
            line.note,
            line.sums,
            round(100 * line.sums.cost_nanos / cost) if cost else round(100 * line.sums.requests / requests),
            asked.page(**line.query) if line.query else "",
            asked.log(**line.query) if line.query else "",
        )
        for line in rows[:most]
    ]
    return Breakdown(name, title, head, shares, max(len(rows) - most, 0), has_latency=name == "models")


def _of_key(key: ApiKey | None, sums: Sums) -> Line:
    if key is None:
        return Line("no key", sums, note="recorded from outside")
    return Line(key.name, sums, {"key": str(key.public_id)}, key.masked)


def _of_members(by_key: dict[int | None, Sums], keys: dict[int, ApiKey]) -> list[Line]:
    """By who made the keys; those that nobody did, as over the API, are one line."""
    found: dict[int | None, tuple[str, Sums]] = {}
    for pk, sums in by_key.items():
        key = keys.get(pk or 0)
        maker = key.created_by if key else None
        name, so_far = found.get(maker.pk if maker else None, (maker.email if maker else "nobody", NOTHING))
        found[maker.pk if maker else None] = (name, so_far + sums)
    lines = [
        Line(name, sums, {"member": member_id(pk)} if pk else {}, "" if pk else "keys that no member made")
        for pk, (name, sums) in found.items()
    ]
    return sorted(lines, key=lambda line: -line.sums.cost_nanos)
