"""Whoever is no developer of an organization any more, or is switched off: what they talk over in the console ends too.

Passes and ephemeral keys ask for the membership when they are used; an answer that streams and a Realtime session that
is open ask nobody: every gateway hears of it, and ends them.
"""

from typing import Any

import structlog
from django.db import connection, transaction
from django.db.models.signals import post_delete, post_save
from django.dispatch import receiver
from redis.exceptions import RedisError

from accounts.access import PERMISSIONS
from accounts.models import Membership, User
from proxy import playground, realtime_sessions
from proxy.listener import MEMBERS

log = structlog.get_logger(__name__)

REASON = "Your membership has ended."


@receiver(post_delete, sender=Membership)
def _member_gone(instance: Membership, **_: Any) -> None:
    _end(instance.user_id, instance.organization_id)


@receiver(post_save, sender=Membership)
def _role_changed(instance: Membership, **_: Any) -> None:
    if instance.role not in PERMISSIONS["keys.manage"]:
        _end(instance.user_id, instance.organization_id)


@receiver(post_save, sender=User)
def _switched_off(instance: User, **_: Any) -> None:
    if not instance.is_active:
        _end(instance.pk, None)


def _end(user_id: int, organization_id: int | None) -> None:
    """Both at commit: the gateways hear of it through PostgreSQL, sessions through the channel layer."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_notify(%s, json_build_array(%s::bigint, email)::text) FROM accounts_user WHERE id = %s",
            [MEMBERS, organization_id, user_id],
        )
    transaction.on_commit(lambda: end_sessions(user_id, organization_id))


def end_sessions(user_id: int, organization_id: int | None) -> int:
    """End the open sessions that the person has from the playground, of one organization or all; how many."""
    rows = realtime_sessions.open_ones().filter(
        key__name=playground.KEY_NAME, end_user__in=User.objects.filter(pk=user_id).values("email")
    )
    if organization_id is not None:
        rows = rows.filter(organization_id=organization_id)
    ended = 0
    for session in rows:
        try:
            realtime_sessions.end(session, by=None, reason=REASON)
        except (RedisError, OSError) as error:
            log.warning("session_not_ended", session=session.public_id.hex, error=type(error).__name__)
            return ended
        ended += 1
    return ended
