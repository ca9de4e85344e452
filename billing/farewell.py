"""An organization that is deleted leaves its books; what it said of its end users goes, its account takes nothing."""

from typing import Any

from django.dispatch import receiver

from accounts.closing import organization_deleted
from accounts.models import Organization
from billing.models import BillingProfile


@receiver(organization_deleted)
def forget(*, organization: Organization, **_: Any) -> None:
    organization.end_user_blocks.all().delete()
    organization.end_user_defaults.all().delete()
    BillingProfile.objects.filter(organization=organization).update(low_balance_nanos=None, top_up_pack=None)
