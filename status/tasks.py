"""What Celery does for the status page. Every task may run twice, at any time, and be killed anywhere."""

import structlog
from celery import shared_task

from status import probing, snapshot, subscriptions, traffic, watch

log = structlog.get_logger(__name__)


@shared_task
def look() -> None:
    """Run the probes that are due, look at every service, publish the snapshot, send what is to be said."""
    probing.run_due()
    watch.look()
    snapshot.refresh()
    subscriptions.send_due()


@shared_task
def tidy() -> None:
    """Forget old samples, notices and unanswered questions."""
    log.info("status_tidied", samples=traffic.forget(), notices=subscriptions.forget())
