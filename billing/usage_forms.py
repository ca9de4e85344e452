"""Forms that say which requests: of the request log and of the usage page."""

from datetime import date, timedelta
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from django import forms
from django.core.exceptions import ValidationError

from accounts import secrets
from accounts.models import Organization
from accounts.scopes import ENDPOINTS
from billing.forms import CreditsField, DayField
from billing.reports import MAX_DAYS, Span, Which
from billing.request_log import Filter

OUTCOMES = [
    ("", "Any"),
    ("completed", "Completed"),
    ("client_closed", "Client left"),
    ("errors", "Without a whole answer"),
    ("rejected", "Rejected or refused"),
    ("failed", "Failed"),
]
STATUSES = [("", "Any"), ("2", "2xx"), ("4", "4xx"), ("5", "5xx")]
STATUSES += [(str(code), str(code)) for code in (200, 400, 401, 403, 404, 408, 413, 429, 499, 500, 502, 503, 504)]
METERED = [path for path in ENDPOINTS if path != "/v1/models"] + ["/v1/realtime"]
KEY_CHOICES = 1_000
DEFAULT_DAYS = 30


def _text() -> forms.TextInput:
    return forms.TextInput(attrs={"class": "control", "placeholder": "Any", "autocomplete": "off"})


def _select() -> forms.Select:
    return forms.Select(attrs={"class": "control"})


class TrafficForm(forms.Form):
    """Days, and whose requests. Wrong values show an error and filter nothing."""

    first_day = DayField(label="From", required=False)
    last_day = DayField(label="To", required=False)
    key = forms.ChoiceField(label="Key", required=False, widget=_select())
    member = forms.ChoiceField(label="Member", required=False, widget=_select())
    model = forms.CharField(required=False, max_length=200, widget=_text())
    endpoint = forms.ChoiceField(
        label="Endpoint", choices=[("", "Any"), *((path, path) for path in METERED)], required=False, widget=_select()
    )
    end_user = forms.CharField(label="End user", required=False, max_length=256, widget=_text())

    def __init__(self, *args: Any, organization: Organization, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.organization = organization
        rows = organization.keys.order_by("name", "pk").values_list(
            "public_id", "pk", "name", "last_four", "created_by", "created_by__email"
        )
        self._ids: dict[str, int] = {}
        self._members: dict[str, list[int]] = {}
        keys, members = [("", "Any")], {"": "Any"}
        for public_id, pk, name, last_four, maker, email in rows[:KEY_CHOICES]:
            self._ids[str(public_id)] = pk
            keys.append((str(public_id), f"{name} (…{last_four})"))
            if maker:
                members[member_id(maker)] = email
                self._members.setdefault(member_id(maker), []).append(pk)
        self.fields["key"].choices = keys
        self.fields["member"].choices = list(members.items())

    @property
    def given(self) -> dict[str, Any]:
        """The valid fields that are not empty."""
        self.is_valid()
        return {name: value for name, value in getattr(self, "cleaned_data", {}).items() if value not in (None, "")}

    def key_ids(self) -> tuple[int, ...] | None:
        """The keys that the fields `key` and `member` leave over; None: all."""
        given = self.given
        if "key" not in given and "member" not in given:
            return None
        ids = {self._ids[str(UUID(given["key"]))]} if "key" in given else set(self._ids.values())
        return tuple(sorted(ids.intersection(self._members[given["member"]]) if "member" in given else ids))


class FilterForm(TrafficForm):
    """The filters of the request log."""

    org_label = forms.CharField(label="Label (x-org-id)", required=False, max_length=256, widget=_text())
    outcome = forms.ChoiceField(label="Result", choices=OUTCOMES, required=False, widget=_select())
    status = forms.ChoiceField(label="Status", choices=STATUSES, required=False, widget=_select())
    min_cost = CreditsField(
        label="Cost from, credits",
        required=False,
        widget=forms.TextInput(
            attrs={"class": "control", "inputmode": "decimal", "placeholder": "Any", "autocomplete": "off"}
        ),
    )

    def which(self) -> Filter:
        """The filter that the valid fields ask for."""
        given = self.given
        return Filter(
            first_day=given.get("first_day"),
            last_day=given.get("last_day"),
            key_ids=self.key_ids(),
            model=given.get("model", ""),
            endpoint=given.get("endpoint", ""),
            outcome=given.get("outcome", ""),
            end_user=given.get("end_user", ""),
            org_label=given.get("org_label", ""),
            status=int(given["status"]) if "status" in given else None,
            min_cost_nanos=given.get("min_cost"),
        )


class UsageForm(TrafficForm):
    """The filters of the usage page; without days, the last thirty."""

    def clean(self) -> dict[str, Any]:
        given = super().clean() or {}
        first, last = given.get("first_day"), given.get("last_day")
        if first and last and first > last:
            raise ValidationError("The first day is after the last one.")
        if first and last and (last - first).days >= MAX_DAYS:
            raise ValidationError(f"At most {MAX_DAYS} days.")
        return given

    def span(self, today: date) -> Span:
        """The days asked for, in the organization's time zone."""
        given = {} if self.non_field_errors() else self.given
        last = given.get("last_day") or today
        first = given.get("first_day") or last - timedelta(days=DEFAULT_DAYS - 1)
        if first > last or (last - first).days >= MAX_DAYS:
            last = first + timedelta(days=DEFAULT_DAYS - 1)
        return Span(first, last, ZoneInfo(self.organization.timezone))

    def which(self) -> Which:
        given = self.given
        names = {name: given.get(name, "") for name in ("model", "endpoint", "end_user")}
        return Which(key_ids=self.key_ids(), **names)


def member_id(user_id: int) -> str:
    """How addresses name a member: stable, and telling nothing."""
    return secrets.fingerprint(f"member:{user_id}")[:16]
