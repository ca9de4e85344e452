"""What Celery does for organizations. Every task may run twice, at any time, and be killed anywhere."""

import structlog
from celery import shared_task

from accounts import closing, deliveries, events, exports

log = structlog.get_logger(__name__)


@shared_task
def send_webhooks() -> None:
    """Give events to webhooks and send what is due."""
    deliveries.dispatch()
    deliveries.send_due()


@shared_task
def make_exports() -> None:
    """Make the exports that wait."""
    exports.make_due()


@shared_task
def tidy() -> None:
    """Delete organizations whose grace period is over, exports that have expired and events that are old."""
    log.info(
        "organizations_tidied",
        organizations=closing.delete_due(),
        exports=exports.tidy(),
        events=events.forget_old(),
    )
