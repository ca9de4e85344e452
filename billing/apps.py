from django.apps import AppConfig


class BillingConfig(AppConfig):
    name = "billing"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from billing import export_parts, farewell, rotation  # noqa: F401, PLC0415 - registered; models exist only now
