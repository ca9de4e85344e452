from typing import Any

from django.apps import AppConfig


class AccountsConfig(AppConfig):
    name = "accounts"
    verbose_name = "People and organizations"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from allauth.account import signals  # noqa: PLC0415 - needs the apps
        from django.db.models.signals import post_migrate  # noqa: PLC0415 - with the rest

        from accounts import export_parts, tenancy  # noqa: F401, PLC0415 - registers; models exist only now

        post_migrate.connect(tenancy.after_migrate, sender=self, dispatch_uid="accounts.tenancy")
        # Whoever changes their password is out everywhere: of the API as well.
        for signal in (signals.password_changed, signals.password_reset, signals.password_set):
            signal.connect(_end_api_sessions, dispatch_uid="accounts.api_sessions")


def _end_api_sessions(*, user: Any, **kwargs: Any) -> None:
    from accounts import api_sessions  # noqa: PLC0415 - needs the apps

    api_sessions.end_all(user, reason="password")
