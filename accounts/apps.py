from django.apps import AppConfig


class AccountsConfig(AppConfig):
    name = "accounts"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from django.db.models.signals import post_migrate  # noqa: PLC0415 - with the rest

        from accounts import export_parts, tenancy  # noqa: F401, PLC0415 - registers; models exist only now

        post_migrate.connect(tenancy.after_migrate, sender=self, dispatch_uid="accounts.tenancy")
