"""The public catalogue of models: the list with its filters, one model, a comparison of some."""

from decimal import Decimal
from typing import Any

from django import forms
from django.core.paginator import Paginator
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.cache import patch_vary_headers
from django.views.decorators.http import require_GET

from billing import usage
from proxy import showcase
from proxy.calculator import CalculatorForm
from proxy.showcase import MOST_COMPARED, Offer, Wish

MODELS_PER_PAGE = 40
CHOSEN = "c"
_CONTROL = {"class": "control"}


class WishForm(forms.Form):
    """The filters; what is no choice of theirs filters nothing."""

    q = forms.CharField(
        label="Search", required=False, max_length=100, widget=forms.TextInput(attrs=_CONTROL | {"type": "search"})
    )
    kind = forms.ChoiceField(required=False, widget=forms.Select(attrs=_CONTROL))
    maker = forms.ChoiceField(label="Made by", required=False, widget=forms.Select(attrs=_CONTROL))
    provider = forms.ChoiceField(label="Served by", required=False, widget=forms.Select(attrs=_CONTROL))
    can = forms.MultipleChoiceField(
        label="Can do", required=False, choices=list(showcase.CAPABILITIES.items()), widget=forms.CheckboxSelectMultiple
    )
    most = forms.DecimalField(
        label="Max. input $/1M", required=False, min_value=Decimal(0), max_digits=9, decimal_places=6,
        widget=forms.NumberInput(attrs=_CONTROL | {"step": "any", "min": 0, "inputmode": "decimal"}),
    )  # fmt: skip
    sort = forms.ChoiceField(
        label="Order", required=False, choices=list(showcase.SORTS.items()), widget=forms.Select(attrs=_CONTROL)
    )

    def __init__(self, data: Any, *, offers: list[Offer]) -> None:
        super().__init__(data)
        kinds = {offer.model.modality: offer.kind for offer in offers}
        makers = {offer.model.owned_by for offer in offers} - {""}
        providers = {provider for offer in offers for provider in offer.providers}
        self._offer("kind", {name: label for name, label in showcase.KINDS.items() if name in kinds} | kinds)
        self._offer("maker", {name: name for name in sorted(makers)})
        self._offer("provider", {name: name for name in sorted(providers)})
        if len(providers) < 2:
            del self.fields["provider"]

    def _offer(self, name: str, choices: dict[str, str]) -> None:
        self.fields[name].choices = [("", "Any"), *choices.items()]  # type: ignore[attr-defined]

    def wish(self) -> Wish:
        self.full_clean()
        clean: dict[str, Any] = getattr(self, "cleaned_data", {})
        most = clean.get("most")
        return Wish(
            words=clean.get("q", ""),
            kind=clean.get("kind", ""),
            maker=clean.get("maker", ""),
            provider=clean.get("provider", ""),
            capabilities=tuple(clean.get("can", ())),
            most_usd="" if most is None else format(most, "f"),
            sort=clean.get("sort") or showcase.FEATURED,
        )


@require_GET
def catalogue(request: HttpRequest) -> HttpResponse:
    """Filters by `GET`, so that a choice has an address; `c` are the models chosen for comparing.

    Who is signed in finds first what their organizations used lately.
    """
    user = request.user
    offers = showcase.offers(used=usage.models_lately(user.organizations.all()) if user.is_authenticated else [])
    form = WishForm(request.GET, offers=offers)
    wish = form.wish()
    page = Paginator(showcase.found(offers, wish), MODELS_PER_PAGE).get_page(request.GET.get("page"))
    chosen = showcase.named(offers, request.GET.getlist(CHOSEN))[:MOST_COMPARED]
    shown = {offer.name for offer in page}
    context = {
        "form": form,
        "page": page,
        "total": len(offers),
        "chosen": chosen,
        "chosen_names": [offer.name for offer in chosen],
        "chosen_elsewhere": [offer.name for offer in chosen if offer.name not in shown],
        "most_compared": MOST_COMPARED,
        "is_filtered": wish != Wish(sort=wish.sort),
    }
    template = "proxy/models/catalogue.html#results" if request.htmx else "proxy/models/catalogue.html"  # type: ignore[attr-defined]
    response = render(request, template, context)
    patch_vary_headers(response, ["HX-Request"])
    return response


@require_GET
def model(request: HttpRequest, name: str) -> HttpResponse:
    """One model with its prices and the calculator. Another name of it leads here, too."""
    offers = showcase.offers()
    offer = next((one for one in offers if one.name == name), None)
    offer = offer or next((one for one in offers if name in one.other_names), None)
    if offer is None:
        raise Http404
    return _calculated(request, "proxy/models/model.html", [offer], {"offer": offer})


@require_GET
def compare(request: HttpRequest) -> HttpResponse:
    """Up to four models side by side."""
    all_offers = showcase.offers()
    asked = request.GET.getlist(CHOSEN)
    offers = showcase.named(all_offers, asked)
    compared = offers[:MOST_COMPARED]
    rows: dict[str, dict[str, Any]] = {}
    for offer in compared:
        for row in offer.price_rows:
            label = rows.setdefault(row.name, {"label": row.label, "per": row.per, "by_model": {}})
            label["by_model"][offer.name] = row.nanos
    table = [
        {"label": row["label"], "per": row["per"], "cells": [row["by_model"].get(offer.name) for offer in compared]}
        for row in rows.values()
    ]
    context = {"offers": compared, "rows": table, "left_out": len(offers) - len(compared), "most": MOST_COMPARED}
    return _calculated(request, "proxy/models/compare.html", compared, context)


def _calculated(request: HttpRequest, template: str, offers: list[Offer], context: dict[str, Any]) -> HttpResponse:
    """The page, or for htmx the calculator's result alone."""
    form = CalculatorForm(request.GET, offers=offers)
    context |= {"calculator": form, "estimates": form.estimates(offers)}
    if request.htmx:  # type: ignore[attr-defined]
        template = "proxy/models/calculator.html#result"
    response = render(request, template, context)
    patch_vary_headers(response, ["HX-Request"])
    return response
