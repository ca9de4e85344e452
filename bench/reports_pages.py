"""The other half of `bench.reports`, with Django's settings: asks for each page five times and tells the fastest."""
# ruff: noqa: E402 - Django must be set up before its models are imported

import json
import os
import time
from datetime import UTC, datetime, timedelta

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

import django

django.setup()

from django.test import Client

from accounts import keys
from accounts.models import Membership, Organization, User


def measure() -> dict[str, float]:
    """Milliseconds by what was asked for."""
    organization = Organization.objects.get(name="bench 0")
    user = User.objects.create_user("bench@example.com", is_staff=True)
    Membership.objects.create(organization=organization, user=user, role="admin")
    secret = keys.issue(organization=organization, name="bench").secret
    key = organization.keys.order_by("pk").first()
    assert key is not None
    client = Client(headers={"host": "127.0.0.1"})
    client.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
    page, log, api = f"/o/{organization.slug}/usage/", f"/o/{organization.slug}/requests/", "/v1/usage"
    bearer = {"authorization": f"Bearer {secret}"}
    addresses = {
        "usage": page,
        "usage, 90 days": f"{page}?{_days(90)}",
        "usage by end user": f"{page}end-users/",
        "usage by end user, 90 days": f"{page}end-users/?{_days(90)}",
        "usage of a key": f"{page}?key={key.public_id}",
        "usage of a model": f"{page}?model=model-3",
        "usage of an end user": f"{page}?end_user=user-7",
        "usage of a key and a model": f"{page}?key={key.public_id}&model=model-3",
        "reports, everything": "/reports",
        "reports, one organization": f"/reports?organization={organization.slug}",
        "reports, data": "/reports/data",
        "requests": log,
        "requests of a key": f"{log}?key={key.public_id}",
        "requests of a model": f"{log}?model=model-3",
        "requests of an end user": f"{log}?end_user=user-7",
        "requests of a model that nobody used": f"{log}?model=none",
        "requests of a rare status": f"{log}?status=400",
        "requests of an end user, dear": f"{log}?end_user=user-7&min_cost=1",
        "API stats": f"{api}/stats",
        "API daily": f"{api}/daily",
        "API logs": f"{api}/logs?limit=100",
    }
    found = {}
    for name, address in addresses.items():
        times = []
        for _ in range(5):
            started = time.perf_counter()
            answer = client.get(address, headers=bearer if address.startswith(api) else None)
            times.append((time.perf_counter() - started) * 1000)
            assert answer.status_code == 200, (address, answer.status_code)
        found[name] = round(min(times), 1)
    return found


def _days(count: int) -> str:
    today = datetime.now(UTC).date()
    return f"first_day={today - timedelta(days=count - 1)}&last_day={today}"


if __name__ == "__main__":
    print(json.dumps(measure()))
