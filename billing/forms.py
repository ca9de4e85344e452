"""Forms of budgets and of blocks, and fields of others."""

from datetime import datetime, timedelta
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.utils import timezone

from billing import money

FIRST_YEAR, LAST_YEAR = 2020, 2100
BLOCK_LENGTHS = [
    ("", "Until unblocked"),
    ("1", "For an hour"),
    ("24", "For a day"),
    ("168", "For a week"),
    ("720", "For 30 days"),
]


class DayField(forms.DateField):
    """A calendar day, picked in the browser's own calendar."""

    widget = forms.DateInput(attrs={"type": "date", "class": "control"}, format="%Y-%m-%d")

    def validate(self, value: Any) -> None:
        super().validate(value)
        if value and not FIRST_YEAR <= value.year <= LAST_YEAR:
            raise ValidationError(f"Between {FIRST_YEAR} and {LAST_YEAR}.")


class CreditsField(forms.CharField):
    """An amount in credits; cleans to integer nano-dollars, None when empty."""

    widget = forms.TextInput(attrs={"inputmode": "decimal", "autocomplete": "off"})

    def clean(self, value: Any) -> int | None:  # type: ignore[override]
        text = super().clean(value).replace(" ", "").replace(",", "")
        if not text:
            return None
        try:
            nanos = money.nanos_from_credits(text)
        except money.InvalidAmount:
            raise ValidationError("Not an amount of credits, such as 250 or 12.5.") from None
        if nanos <= 0:
            raise ValidationError("More than zero; leave it empty for no budget.")
        return nanos


class BudgetsForm(forms.Form):
    """The budgets of one key: at most one each of credits and tokens, per day and per month."""

    cost_day = CreditsField(label="Credits per day", required=False, help_text="Empty: no budget.")
    cost_month = CreditsField(label="Credits per month", required=False, help_text="Empty: no budget.")
    tokens_day = forms.IntegerField(
        label="Tokens per day", required=False, min_value=1, max_value=10**15, help_text="Empty: no budget."
    )
    tokens_month = forms.IntegerField(
        label="Tokens per month", required=False, min_value=1, max_value=10**15, help_text="Empty: no budget."
    )

    def caps(self, period: str) -> dict[str, Any]:
        """The valid caps of `period`, as the verbs take them."""
        return {
            "period": period,
            "cost_cap_nanos": self.cleaned_data[f"cost_{period}"],
            "token_cap": self.cleaned_data[f"tokens_{period}"],
        }


class CapsForm(BudgetsForm):
    """The budgets of an organization or of end users, and whether they refuse or only count."""

    observes = forms.BooleanField(
        label="Observe only", required=False, help_text="Count and show, but never refuse a request."
    )

    def caps(self, period: str) -> dict[str, Any]:
        return super().caps(period) | {"observes": self.cleaned_data["observes"]}


class RatesForm(forms.Form):
    """The default rates of an organization's keys, and the rates of all of them together."""

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
    max_rpm = forms.IntegerField(
        label="Requests per minute, all keys",
        required=False,
        min_value=1,
        max_value=100_000_000,
        help_text="Empty: no limit.",
    )
    max_tpm = forms.IntegerField(
        label="Tokens per minute, all keys",
        required=False,
        min_value=1,
        max_value=2_000_000_000,
        help_text="Empty: no limit.",
    )
    max_concurrent = forms.IntegerField(
        label="Requests at once, all keys",
        required=False,
        min_value=1,
        max_value=1_000_000,
        help_text="Empty: no limit.",
    )


class BlockForm(forms.Form):
    """An end user to block, why, and for how long."""

    end_user = forms.CharField(
        label="End user",
        max_length=256,
        strip=False,
        help_text="As your requests send it in x-user-id.",
        widget=forms.TextInput(attrs={"autocomplete": "off", "spellcheck": "false"}),
    )
    reason = forms.CharField(
        max_length=500,
        help_text="Your own servers see it in the refusal.",
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
    )
    lasts = forms.ChoiceField(label="Blocked", choices=BLOCK_LENGTHS, required=False)

    def expires_at(self) -> datetime | None:
        """When the block ends, counted from now; None for one that lasts."""
        hours = self.cleaned_data["lasts"]
        return timezone.now() + timedelta(hours=int(hours)) if hours else None
