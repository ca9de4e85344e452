"""What Celery does for the gallery. Every task may run twice, at any time, and be killed anywhere."""

import structlog
from celery import shared_task

from gallery import keeping, showing

log = structlog.get_logger(__name__)


@shared_task
def store() -> None:
    """Move what is spooled into the storage, and within it what is open no more."""
    keeping.store_due()
    showing.move_due()


@shared_task
def tidy() -> None:
    """Delete what is too old, and files that belong to nothing."""
    log.info("gallery_tidied", expired=keeping.expire(), files=keeping.sweep())
