"""Incidents as organizations see them: the banner, the events, the goodwill."""

from datetime import UTC, datetime, timedelta

import pytest
from django.core.cache import cache
from django.urls import reverse

from accounts.models import Event, User
from accounts.tests.factories import OrganizationFactory
from billing import ledger
from billing.models import UsageRollup
from billing.money import NANOS_PER_CREDIT
from config.tests import pages_kit
from proxy import goodwill, outlook, providers
from proxy.models import Provider
from status import incidents, snapshot
from status.models import Incident, Service

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def no_snapshot():
    cache.delete(snapshot.KEY)
    yield
    cache.delete(snapshot.KEY)


@pytest.fixture
def family() -> Service:
    return Service.objects.create(slug="gpt", name="GPT", model_prefix="gpt-")


def used(organization, model: str) -> None:
    hour = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    UsageRollup.objects.create(organization=organization, hour=hour, end_user="", model=model, endpoint="/v1/x")


def open_incident(*services: Service) -> Incident:
    made = incidents.announce(title="Trouble", body="b", severity="high", services=list(services), by=None)
    snapshot.refresh()
    return made


def test_only_those_who_use_it_are_told(family):
    concerned, other = OrganizationFactory(), OrganizationFactory()
    used(concerned, "gpt-fast")
    used(other, "claude")
    made = open_incident(family)
    assert [one["id"] for one in outlook.incidents_for(concerned)] == [made.public_id]
    assert outlook.incidents_for(other) == []
    told = Event.objects.get(organization=concerned)
    assert (told.kind, told.data["incident"]) == ("incident.opened", made.public_id)
    assert not Event.objects.filter(organization=other).exists()


def test_what_concerns_everybody_is_told_to_everybody():
    organization = OrganizationFactory()
    made = open_incident(Service.objects.get(slug="api"))
    assert len(outlook.incidents_for(organization)) == 1
    incidents.resolve(incident=made, body="Over.")
    snapshot.refresh()
    assert outlook.incidents_for(organization) == []
    kinds = Event.objects.filter(organization=organization).order_by("pk").values_list("kind", flat=True)
    assert list(kinds) == ["incident.opened", "incident.resolved"]


def test_providers_become_services_and_hide_when_switched_off():
    own = Provider.Kind.OPENAI_COMPATIBLE
    made = providers.create(slug="acme", name="Acme", kind=own, base_url="https://acme.example/v1")
    outlook.keep_services()
    outlook.keep_services()
    service = Service.objects.get(provider="acme")
    assert service.is_public
    assert service.checks.get().target == "https://acme.example/v1/models"
    Provider.objects.filter(pk=made.pk).update(is_enabled=False)
    outlook.keep_services()
    assert not Service.objects.get(provider="acme").is_public
    made.delete()
    outlook.keep_services()
    assert not Service.objects.get(provider="acme").is_public


def test_goodwill_is_given_once_to_those_that_were_hit(client):
    service = Service.objects.create(slug="acme", name="Acme", provider="acme")
    hurt, fine = (pages_kit.cast().organization for _ in range(2))
    made = open_incident(service)
    Incident.objects.update(started_at=datetime.now(UTC) - timedelta(hours=1))
    made.refresh_from_db()
    pages_kit.request_of(pages_kit.key_of(hurt), provider="acme", outcome="upstream_error", cost_nanos=0)
    pages_kit.request_of(pages_kit.key_of(fine), provider="acme")
    assert [(hit.organization, hit.failures) for hit in goodwill.hit_by(made)] == [(hurt, 1)]

    staff = User.objects.create_superuser("staff@example.com")
    client.force_login(staff, backend="django.contrib.auth.backends.ModelBackend")
    action = {"action": "grant_goodwill", "_selected_action": made.pk}
    address = reverse("admin:status_incident_changelist")
    assert "1 organization had" in client.post(address, action).content.decode()
    for _ in range(2):
        assert client.post(address, {**action, "credits": "12.50"}).status_code == 302
    assert ledger.balance_of(hurt).posted == 12_500 * NANOS_PER_CREDIT // 1_000
    assert ledger.balance_of(fine).posted == 0
