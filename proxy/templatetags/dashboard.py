"""The figures of the administration's first page."""

from typing import Any

from django import template

from proxy import dashboard

register = template.Library()


@register.inclusion_tag("admin/dashboard.html", takes_context=True)
def staff_dashboard(context: dict[str, Any]) -> dict[str, Any]:
    """For staff who may read the books; for others nothing."""
    user = context["request"].user
    return {"figures": dashboard.figures() if user.has_perm("billing.view_usagerollup") else None}
