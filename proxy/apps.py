from django.apps import AppConfig


class ProxyConfig(AppConfig):
    name = "proxy"
    verbose_name = "Models and providers"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from proxy import farewell, leaving, outlook, tracing  # noqa: F401, PLC0415 - their receivers; models only now

        tracing.listen()
