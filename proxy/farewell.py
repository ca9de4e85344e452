"""An organization that is deleted takes its upstream keys, names for models and objects at providers along, and what
its members said in the playground."""

from typing import Any

from django.dispatch import receiver

from accounts.closing import organization_deleted
from accounts.models import Organization


@receiver(organization_deleted)
def forget(*, organization: Organization, **_: Any) -> None:
    organization.conversations.all().delete()
    organization.realtime_sessions.all().delete()
    organization.upstream_keys.all().delete()
    organization.model_aliases.all().delete()
    organization.upstream_objects.all().delete()
