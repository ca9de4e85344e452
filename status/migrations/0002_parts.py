from typing import Any

from django.db import migrations

PARTS = [
    {
        "slug": "api", "name": "API", "position": 10, "description": "Requests under /v1", "counts_our_failures": True,
        "checks": [{"kind": "database", "interval_s": 30, "timeout_s": 3, "slow_ms": 1_000}],
    },
    {
        "slug": "console", "name": "Console", "position": 20, "description": "Pages and the management API",
        "checks": [{"kind": "http", "target": "/health", "interval_s": 60, "timeout_s": 5}],
    },
    {
        "slug": "background", "name": "Statements and notifications", "position": 30,
        "description": "What happens after a request",
        "checks": [
            {"kind": "cache", "interval_s": 30, "timeout_s": 3, "slow_ms": 1_000},
            {"kind": "queue", "interval_s": 60, "timeout_s": 3},
        ],
    },
    {
        "slug": "storage", "name": "File storage", "position": 40, "description": "Generated images",
        "checks": [{"kind": "storage", "interval_s": 300, "timeout_s": 10}],
    },
]  # fmt: skip


def make(apps: Any, schema_editor: Any) -> None:
    """The parts of every installation."""
    Service, Check = apps.get_model("status", "Service"), apps.get_model("status", "Check")
    for part in PARTS:
        fields = {name: value for name, value in part.items() if name != "checks"}
        service, is_new = Service.objects.get_or_create(slug=fields["slug"], defaults={**fields, "group": "Platform"})
        if is_new:
            Check.objects.bulk_create([Check(service=service, **check) for check in part["checks"]])


class Migration(migrations.Migration):
    dependencies = [("status", "0001_initial")]

    operations = [migrations.RunPython(make, migrations.RunPython.noop)]
