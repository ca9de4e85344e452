"""The console's banner while an incident touches what the organization uses."""

from typing import Any

from django import template

from accounts.models import Organization
from proxy import outlook

register = template.Library()


@register.inclusion_tag("components/incident_banner.html")
def incident_banner(organization: Organization | None) -> dict[str, Any]:
    """The open incidents that concern `organization`, newest first."""
    return {"incidents": outlook.incidents_for(organization) if organization else []}
