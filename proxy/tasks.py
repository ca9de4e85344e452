"""What Celery does for the gateway. Every task may run twice, at any time, and be killed anywhere."""

from celery import shared_task

from proxy import outlook, upstream_objects


@shared_task
def forget_upstream_objects() -> None:
    """Drop the owners of objects that no provider keeps any longer."""
    upstream_objects.forget_old()


@shared_task
def keep_services() -> None:
    """Let the status page have a service for each provider."""
    outlook.keep_services()
