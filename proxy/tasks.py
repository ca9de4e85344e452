"""What Celery does for the gateway. Every task may run twice, at any time, and be killed anywhere."""

from celery import shared_task

from proxy import books_watch, client_secrets, outlook, provider_reports, realtime_sessions, upstream_objects


@shared_task
def forget_upstream_objects() -> None:
    """Drop the owners of objects that no provider keeps any longer."""
    upstream_objects.forget_old()


@shared_task
def prove_books() -> None:
    """Prove the books. `books_drift` in the log is what pages."""
    books_watch.watch()


@shared_task
def compare_costs() -> None:
    """Hold what providers say that days cost against our own records."""
    provider_reports.compare()


@shared_task
def keep_services() -> None:
    """Let the status page have a service for each provider."""
    outlook.keep_services()


@shared_task
def tidy_realtime() -> None:
    """Close sessions whose process was lost; forget ephemeral keys that have expired."""
    realtime_sessions.tidy()
    client_secrets.forget_expired()
