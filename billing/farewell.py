"""An organization that is deleted leaves its books; what its end users said, and what it said of them, goes, and its
account takes nothing."""

from typing import Any

from django.dispatch import receiver

from accounts.closing import organization_deleted
from accounts.models import Organization
from billing.models import BillingProfile
from billing.transcript_models import TranscriptSettings


@receiver(organization_deleted)
def forget(*, organization: Organization, **_: Any) -> None:
    organization.transcripts.all().delete()
    TranscriptSettings.objects.filter(organization=organization).delete()
    organization.end_user_blocks.all().delete()
    organization.end_user_defaults.all().delete()
    BillingProfile.objects.filter(organization=organization).update(low_balance_nanos=None, top_up_pack=None)
