"""Tags that know the models on offer."""

from typing import Any

from django import template

from proxy import showcase
from proxy.models import Model

register = template.Library()


@register.simple_tag
def first_model() -> str:
    """The model that a first request should try: one that is served."""
    return Model.objects.for_first_request()


@register.inclusion_tag("proxy/models/popular.html")
def popular_models(most: int = 8) -> dict[str, Any]:
    """A short price list with the way to the whole catalogue."""
    offers = showcase.offers()
    return {"offers": showcase.samples(offers, most), "total": len(offers)}
