"""Tags that know the models on offer."""

from django import template

from proxy.models import Model

register = template.Library()


@register.simple_tag
def first_model() -> str:
    """The model that a first request should try: one that is served."""
    return Model.objects.for_first_request()
