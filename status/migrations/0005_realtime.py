from typing import Any

from django.db import migrations


def make(apps: Any, schema_editor: Any) -> None:
    """Realtime is a service of its own: a web worker may answer HTTP and yet refuse every socket."""
    service_model, check = apps.get_model("status", "Service"), apps.get_model("status", "Check")
    service, is_new = service_model.objects.get_or_create(
        slug="realtime",
        defaults={"name": "Realtime", "description": "Spoken sessions", "group": "Platform", "position": 15},
    )
    if is_new:
        check.objects.create(service=service, kind="websocket", target="/v1/realtime", interval_s=60, timeout_s=5)


class Migration(migrations.Migration):
    dependencies = [("status", "0004_websocket_check")]

    operations = [migrations.RunPython(make, migrations.RunPython.noop)]
