"""Staff's view of the price book: prices are read, and added by `rates.set_price`; none is changed or taken away."""

import json
from typing import Any

from django import forms
from django.contrib import admin
from django.http import HttpRequest
from django.utils import timezone

from billing import rate_json, rates
from billing.price_models import Price


class PriceForm(forms.ModelForm):
    """A new price. It counts from now on unless a later time is given."""

    effective_at = forms.SplitDateTimeField(
        required=False, widget=admin.widgets.AdminSplitDateTime, help_text="UTC. Empty: now. Never in the past."
    )

    class Meta:
        model = Price
        fields = ["model", "side", "provider", "effective_at", "rates", "source"]
        widgets = {
            "model": forms.TextInput,
            "provider": forms.TextInput,
            "source": forms.TextInput(attrs={"size": 80}),
        }
        help_texts = {"rates": "USD per million tokens as text, as in billing/catalogue/README.md"}

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or self.cleaned_data
        if "rates" in cleaned and "model" in cleaned:
            try:
                rate_json.parse(cleaned["model"], cleaned["rates"])
            except rate_json.InvalidRates as error:
                self.add_error("rates", str(error))
        if cleaned.get("effective_at") and cleaned["effective_at"] < timezone.now():
            self.add_error("effective_at", "The past is not priced again.")
        if (cleaned.get("side") == Price.Side.COST) != bool(cleaned.get("provider")):
            self.add_error("provider", "A provider is named for what we pay, and only there.")
        return cleaned

    def _get_validation_exclusions(self) -> set[str]:
        # The verb fills in the time; constraints that need it are checked by PostgreSQL.
        return super()._get_validation_exclusions() | {"effective_at"}


@admin.register(Price)
class PriceAdmin(admin.ModelAdmin):
    form = PriceForm
    list_display = ["model", "side", "provider", "effective_at", "origin", "short_rates"]
    list_filter = ["side", "origin", "provider", "effective_at"]
    search_fields = ["model", "source"]
    ordering = ["model", "side", "provider", "-effective_at"]

    @admin.display(description="Rates")
    def short_rates(self, price: Price) -> str:
        flat = {name: value for name, value in price.rates.items() if isinstance(value, str)}
        return ", ".join(f"{name} {value}" for name, value in flat.items()) or json.dumps(price.rates)[:80]

    def has_change_permission(self, request: HttpRequest, obj: Price | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Price | None = None) -> bool:
        return False

    def save_model(self, request: HttpRequest, obj: Price, form: Any, change: bool) -> None:
        values = form.cleaned_data
        made = rates.set_price(
            model=values["model"],
            side=values["side"],
            provider=values["provider"],
            effective_at=values["effective_at"],
            rates=values["rates"],
            source=values["source"] or f"set by {request.user}",
        )
        obj.pk, obj.effective_at = made.pk, made.effective_at
