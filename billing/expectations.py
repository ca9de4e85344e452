"""What a request is likely to use, by what the organization's earlier ones used."""

from datetime import timedelta

from django.db.models import Sum
from django.utils import timezone

from accounts.models import Organization
from billing.models import UsageRollup

LOOKED_BACK = timedelta(days=30)


def mean_output_tokens(organization: Organization, *, model: str, endpoint: str) -> int | None:
    """Output tokens of one request, the mean of the last 30 days rounded up; None without any to go by."""
    sums = UsageRollup.objects.filter(
        organization=organization, hour__gte=timezone.now() - LOOKED_BACK, model=model, endpoint=endpoint
    ).aggregate(requests=Sum("requests"), output=Sum("output_tokens"))
    if not sums["requests"]:
        return None
    return -(-sums["output"] // sums["requests"])
