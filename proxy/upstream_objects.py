"""Who made which object that a provider keeps under our key. Forgotten after 60 days: providers keep them for 30."""

from datetime import timedelta

import structlog
from django.db import DatabaseError
from django.utils import timezone

from proxy.gateway.errors import Unavailable
from proxy.in_thread import in_thread
from proxy.models import UpstreamObject

log = structlog.get_logger(__name__)

KEPT_FOR = timedelta(days=60)
MAX_ID = 200


class Objects:
    """See `proxy.gateway.owned.Objects`."""

    async def record(self, *, organization_id: int, kind: str, upstream_id: str, deployment_id: int) -> None:
        if len(upstream_id) > MAX_ID or "\0" in upstream_id:
            return
        row = UpstreamObject(
            organization_id=organization_id, kind=kind, upstream_id=upstream_id, deployment_id=deployment_id
        )
        try:
            await in_thread(lambda: UpstreamObject.objects.bulk_create([row], ignore_conflicts=True))
        except DatabaseError as error:
            log.warning("upstream_object_not_recorded", kind=kind, error=type(error).__name__)

    async def find(self, *, organization_id: int, kind: str, upstream_id: str) -> int | None:
        rows = UpstreamObject.objects.filter(organization_id=organization_id, kind=kind, upstream_id=upstream_id)
        try:
            found: int | None = await in_thread(rows.values_list("deployment_id", flat=True).first)
        except DatabaseError:
            raise Unavailable from None
        return found

    async def owned(self, *, organization_id: int, upstream_ids: list[str]) -> set[str]:
        if not upstream_ids:
            return set()
        asked = [upstream_id for upstream_id in upstream_ids if "\0" not in upstream_id]
        rows = UpstreamObject.objects.filter(organization_id=organization_id, upstream_id__in=asked)
        try:
            return set(await in_thread(lambda: list(rows.values_list("upstream_id", flat=True))))
        except DatabaseError:
            raise Unavailable from None

    async def forget(self, *, organization_id: int, kind: str, upstream_id: str) -> None:
        rows = UpstreamObject.objects.filter(organization_id=organization_id, kind=kind, upstream_id=upstream_id)
        try:
            await in_thread(rows.delete)
        except DatabaseError as error:
            log.warning("upstream_object_not_forgotten", kind=kind, error=type(error).__name__)


def forget_old() -> int:
    """Drop what no provider keeps any longer; how many."""
    deleted, _ = UpstreamObject.objects.filter(created_at__lt=timezone.now() - KEPT_FOR).delete()
    return deleted
