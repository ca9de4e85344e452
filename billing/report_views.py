"""`/reports`: cost by user, by day and by both, for staff over everything and for admins over their organizations."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

from django import forms
from django.contrib.auth.decorators import login_required
from django.core.exceptions import PermissionDenied, ValidationError
from django.http import Http404, HttpResponse, JsonResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils.http import urlencode
from django.views.decorators.http import require_safe

from accounts import second_factor
from accounts.access import MemberRequest
from accounts.models import Organization, Role
from billing import cost_reports
from billing.charts import Chart, Series
from billing.cost_reports import CostReport
from billing.forms import DayField
from billing.money import NANOS_PER_USD, format_credits, format_usd
from billing.reports import MAX_DAYS, Span
from billing.templatetags.money import usd

DEFAULT_DAYS = 30
CHOICES = 500


class ReportForm(forms.Form):
    """Days of UTC, both included."""

    start = DayField(label="From", required=False)
    end = DayField(label="To", required=False)

    def clean(self) -> dict[str, Any]:
        given = super().clean() or {}
        last = given.get("end") or datetime.now(UTC).date()
        first = given.get("start") or last - timedelta(days=DEFAULT_DAYS - 1)
        if first > last:
            raise ValidationError("The first day is after the last one.")
        if (last - first).days >= MAX_DAYS:
            raise ValidationError(f"At most {MAX_DAYS} days.")
        return given | {"span": Span(first, last)}

    def span(self) -> Span:
        """The days asked for; the last thirty where that is none."""
        today = datetime.now(UTC).date()
        if not self.is_valid():
            return Span(today - timedelta(days=DEFAULT_DAYS - 1), today)
        found: Span = self.cleaned_data["span"]
        return found


@dataclass(frozen=True, slots=True)
class Scope:
    """Whose cost the reader may see: `organizations` to choose from, and the one that was `chosen`, if any."""

    organizations: list[Organization]
    chosen: Organization | None
    is_staff: bool

    @property
    def ids(self) -> list[int] | None:
        """None: of all organizations there are."""
        if self.chosen is not None:
            return [self.chosen.pk]
        return None if self.is_staff else [one.pk for one in self.organizations]


@require_safe
@login_required
def reports(request: MemberRequest) -> HttpResponse:
    scope = _scope(request)
    form = ReportForm(request.GET)
    report = cost_reports.of(form.span(), organization_ids=scope.ids)
    context = {
        "form": form,
        "scope": scope,
        "report": report,
        "charts": _charts(report, scope.chosen),
        "data_query": urlencode(_query(report, scope)),
    }
    return render(request, "billing/reports.html", context)


@require_safe
@login_required
def report_data(request: MemberRequest) -> JsonResponse:
    """The figures of the page: amounts as decimal strings, in credits and in dollars."""
    scope = _scope(request)
    form = ReportForm(request.GET)
    if not form.is_valid():
        name, problems = next(iter(form.errors.items()))
        param = None if name == "__all__" else name
        return JsonResponse({"error": {"message": problems[0], "param": param}}, status=400)
    report = cost_reports.of(form.span(), organization_ids=scope.ids)
    names = {user.who: user.name for user in report.top}
    cumulative = dict(zip(report.daily, report.cumulative, strict=True))
    return JsonResponse(
        {
            "start": report.span.first.isoformat(),
            "end": report.span.last.isoformat(),
            "organization": scope.chosen.slug if scope.chosen else None,
            "total": _amount(report.total),
            "by_user": [
                {"user": user.name, "requests": user.requests, "total_tokens": user.tokens, **_amount(user.cost_nanos)}
                for user in report.users
            ],
            "daily": [
                {
                    "date": day.isoformat(),
                    **_amount(nanos),
                    "cumulative_credits": format_credits(cumulative[day]),
                    "cumulative_usd": format_usd(cumulative[day], 9),
                }
                for day, nanos in report.daily.items()
            ],
            "daily_by_user": [
                {"date": day.isoformat(), "users": _users_of(report, day, names), "others": _amount(rest)}
                for day, rest in zip(report.daily, report.others, strict=True)
            ],
        }
    )


def _scope(request: MemberRequest) -> Scope:
    """Raises `PermissionDenied` for who runs no organization, `Http404` for one that the reader does not run."""
    is_staff = request.user.is_staff and not second_factor.is_missing(request.user)
    runs = Organization.objects.order_by("name", "pk")
    if not is_staff:
        runs = runs.filter(memberships__user=request.user, memberships__role__in=[Role.OWNER, Role.ADMIN])
    slug = request.GET.get("organization", "")
    chosen = runs.filter(slug=slug[:60]).first() if slug.isascii() and slug.isprintable() and slug else None
    if slug and chosen is None:
        raise Http404("no such organization")
    organizations = list(runs[:CHOICES])
    if not organizations and not is_staff:
        raise PermissionDenied
    return Scope(organizations, chosen, is_staff)


def _query(report: CostReport, scope: Scope) -> dict[str, str]:
    query = {"start": report.span.first.isoformat(), "end": report.span.last.isoformat()}
    return query | ({"organization": scope.chosen.slug} if scope.chosen else {})


def _amount(nanos: int) -> dict[str, str]:
    return {"credits": format_credits(nanos), "usd": format_usd(nanos, 9)}


def _users_of(report: CostReport, day: date, names: dict[int, str]) -> list[dict[str, str]]:
    found = [(who, report.daily_by_user.get((day, who), 0)) for who in names]
    return [{"user": names[who], **_amount(nanos)} for who, nanos in found if nanos]


def _charts(report: CostReport, organization: Organization | None) -> list[Chart]:
    days = list(report.daily)
    shape: dict[str, Any] = {
        "labels": [f"{day:%b} {day.day}" for day in days],
        "links": [_log(organization, day) for day in days],
        "unit": "usd",
    }
    amounts = list(report.daily.values())
    by_user = [
        _series(user.name, [report.daily_by_user.get((day, user.who), 0) for day in days], number + 1)
        for number, user in enumerate(report.top)
    ]
    if len(report.users) > len(report.top):
        by_user.append(_series(f"{len(report.users) - len(report.top)} more", report.others, 7))
    bars = report.bars
    return [
        Chart(
            "by-user",
            "Cost by user",
            [user.name for user in bars],
            [""] * len(bars),
            [_series("Cost", [user.cost_nanos for user in bars], 1)],
            note=f"The {len(bars)} dearest of {len(report.users):,}." if len(report.users) > len(bars) else "",
            head="User",
            unit="usd",
            is_slanted=True,
        ),
        Chart(
            "daily",
            "Daily cost",
            series=[
                _series("Cost", amounts, 1),
                _series("Cumulative", report.cumulative, 2, kind="line", axis="right"),
            ],
            note="Bars: the day, on the left. Line: all so far, on the right.",
            **shape,
        ),
        Chart("daily-by-user", "Daily cost by user", series=by_user, **shape),
    ]


def _series(label: str, nanos: list[int], color: int, **options: Any) -> Series:
    values = [amount / NANOS_PER_USD for amount in nanos]
    return Series(label, values, [usd(amount, 4) for amount in nanos], color, **options)


def _log(organization: Organization | None, day: date) -> str:
    """The requests of a day: of one organization, where days are days of UTC too."""
    if organization is None or organization.timezone != "UTC":
        return ""
    address = reverse("billing:request-list", args=[organization.slug])
    return f"{address}?{urlencode({'first_day': day.isoformat(), 'last_day': day.isoformat()})}"
