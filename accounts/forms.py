"""Forms of the console's key pages. They check shape; `accounts.keys` checks rules."""

import re
import uuid
from datetime import datetime, timedelta
from ipaddress import ip_network
from typing import Any

from django import forms
from django.utils import timezone

from accounts import keys
from accounts.models import ApiKey
from accounts.scopes import ADMIN, ENDPOINTS, SCOPES

LIFETIMES = [("", "Never"), ("7", "In 7 days"), ("30", "In 30 days"), ("90", "In 90 days"), ("365", "In a year")]
GRACES = [("0", "Stop the old key now"), ("1", "1 hour"), ("24", "24 hours"), ("168", "7 days")]
KEEP = "keep"
LIMITS = keys.CHANGEABLE - {"expires_at"}
MAX_ITEMS = 100
MAX_ITEM_LENGTH = 200


class LinesField(forms.CharField):
    """Several short values, one per line or between commas; cleans to a list without repeats."""

    widget = forms.Textarea(attrs={"rows": 2, "spellcheck": "false", "autocapitalize": "none"})

    def to_python(self, value: Any) -> list[str]:  # type: ignore[override]
        items = list(dict.fromkeys(part for part in re.split(r"[\s,]+", value or "") if part))
        if len(items) > MAX_ITEMS:
            raise forms.ValidationError(f"At most {MAX_ITEMS} entries.")
        for item in items:
            if len(item) > MAX_ITEM_LENGTH:
                raise forms.ValidationError(f"“{item[:40]}…” is too long.")
        return items


class KeyForm(forms.Form):
    """A new API key. `token` makes a second submit of the same form visible: it is the key's public id to be."""

    token = forms.UUIDField(widget=forms.HiddenInput)
    name = forms.CharField(
        max_length=80,
        help_text="Where the key will live, such as “production server”.",
        widget=forms.TextInput(attrs={"autocomplete": "off", "placeholder": "My first key"}),
    )
    lifetime = forms.ChoiceField(label="Expires", choices=LIFETIMES, required=False)
    scopes = forms.MultipleChoiceField(
        label="Scopes",
        choices=[(scope, label) for scope, label in SCOPES.items() if scope != ADMIN],
        required=False,
        widget=forms.CheckboxSelectMultiple,
        help_text="What the key may call. None chosen: everything.",
    )
    allowed_endpoints = forms.MultipleChoiceField(
        label="Endpoints",
        choices=[(path, path) for path in ENDPOINTS],
        required=False,
        widget=forms.CheckboxSelectMultiple,
        help_text="None chosen: every endpoint of the scopes.",
    )
    allowed_models = LinesField(
        label="Models", required=False, help_text="One per line. Empty: every model.", max_length=20_000
    )
    allowed_ips = LinesField(
        label="IP addresses",
        required=False,
        help_text="Addresses or networks such as 203.0.113.0/24, one per line. Empty: from anywhere.",
        max_length=20_000,
    )
    rpm = forms.IntegerField(
        label="Requests per minute",
        required=False,
        min_value=1,
        max_value=1_000_000,
        help_text="Empty: the default of this site.",
    )
    tpm = forms.IntegerField(
        label="Tokens per minute", required=False, min_value=1, max_value=2_000_000_000, help_text="Empty: no limit."
    )
    max_concurrent = forms.IntegerField(
        label="Requests at once", required=False, min_value=1, max_value=100_000, help_text="Empty: no limit."
    )

    def __init__(self, *args: Any, is_staff: bool = False, **kwargs: Any) -> None:
        kwargs["initial"] = {"token": uuid.uuid4(), **kwargs.get("initial", {})}
        super().__init__(*args, **kwargs)
        if is_staff:
            self.fields["scopes"].choices = list(SCOPES.items())  # type: ignore[attr-defined]

    def clean_name(self) -> str:
        return " ".join(self.cleaned_data["name"].split())

    def clean_allowed_ips(self) -> list[str]:
        networks = []
        for text in self.cleaned_data["allowed_ips"]:
            try:
                networks.append(str(ip_network(text, strict=False)))
            except ValueError:
                raise forms.ValidationError(f"“{text}” is not an IP address or network.") from None
        return networks

    def expires_at(self) -> datetime | None:
        """When the key ends, counted from now; None for a key that does not expire."""
        days = self.cleaned_data["lifetime"]
        return timezone.now() + timedelta(days=int(days)) if days else None

    def limits(self) -> dict[str, Any]:
        """What `keys.issue` and `keys.change` take of it alike."""
        return {name: self.cleaned_data[name] for name in LIMITS}

    @property
    def has_limit_errors(self) -> bool:
        """Whether a field of the folded part of the form is wrong, so that it is shown open."""
        return bool(set(self.errors) - {"name", "lifetime", "token", "__all__"})


class KeyChangeForm(KeyForm):
    """Another name and other limits for a key. Its scopes stay."""

    def __init__(self, *args: Any, key: ApiKey, **kwargs: Any) -> None:
        given = {name: getattr(key, name) for name in LIMITS}
        lines = {name: "\n".join(given[name]) for name in ("allowed_models", "allowed_ips")}
        kwargs["initial"] = given | lines | {"lifetime": KEEP}
        super().__init__(*args, **kwargs)
        del self.fields["token"], self.fields["scopes"]
        ends = f"{key.expires_at:%Y-%m-%d %H:%M} UTC" if key.expires_at else "never"
        self.fields["lifetime"].choices = [(KEEP, f"Unchanged: {ends}"), *LIFETIMES]  # type: ignore[attr-defined]
        self._key = key

    def expires_at(self) -> datetime | None:
        """When the key ends: as before, or counted from now."""
        return self._key.expires_at if self.cleaned_data["lifetime"] == KEEP else super().expires_at()


class RotateForm(forms.Form):
    """A successor for a key, and how long the old one still works."""

    token = forms.UUIDField(widget=forms.HiddenInput)
    grace = forms.ChoiceField(
        label="The old key keeps working for",
        choices=GRACES,
        initial="24",
        help_text="Long enough to put the new key everywhere the old one is.",
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs["initial"] = {"token": uuid.uuid4(), **kwargs.get("initial", {})}
        super().__init__(*args, **kwargs)

    def grace_period(self) -> timedelta:
        return timedelta(hours=int(self.cleaned_data["grace"]))
