"""The status page and its feeds: what they say, what they cost, and that they stand while PostgreSQL does not."""

import json
from datetime import UTC, datetime, timedelta
from unittest import mock
from xml.etree import ElementTree

import pytest
from allauth.core import ratelimit
from django.core import mail
from django.core.cache import cache
from django.db import OperationalError
from django.test import Client
from django.urls import reverse

from accounts.models import User
from status import incidents, snapshot, subscriptions
from status.models import Incident, Maintenance, Service, ServiceDay, Subscriber
from status.states import State

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def story():
    """A provider in trouble with a day of history, one resolved incident, and work to come."""
    cache.delete(snapshot.KEY)
    today = datetime.now(UTC)
    service = Service.objects.create(slug="acme", name="Acme <&>", provider="acme", state=State.PARTIAL_OUTAGE)
    ServiceDay.objects.create(service=service, day=today.date(), operational_s=9_000, major_s=1_000)
    over = incidents.announce(title="Old trouble", body="It was slow.", severity="low", services=[service], by=None)
    incidents.resolve(incident=over, body="Over.")
    incidents.announce(title="New <trouble>", body="Some fail.", severity="high", services=[service], by=None)
    Maintenance.objects.create(title="Move", starts_at=today, ends_at=today + timedelta(hours=1))
    snapshot.refresh()
    yield service
    cache.delete(snapshot.KEY)


def test_the_page_tells_all_without_a_query(client, django_assert_num_queries):
    with django_assert_num_queries(0):
        text = client.get(reverse("status:page")).content.decode()
    for part in (
        "Some requests fail",
        "Acme &lt;&amp;&gt;",
        "New &lt;trouble&gt;",
        "Old trouble",
        "90.00 % uptime",
        "Move",
    ):
        assert part in text
    assert "<script>" not in text
    assert " style=" not in text


def test_it_stands_while_the_database_is_away_also_for_people_with_a_session(client):
    client.force_login(User.objects.create_user("ada@example.com"), backend="django.contrib.auth.backends.ModelBackend")
    with mock.patch("django.db.backends.utils.CursorWrapper.execute", side_effect=OperationalError("away")):
        for name in ("page", "json", "rss"):
            assert client.get(reverse(f"status:{name}")).status_code == 200
        assert "New &lt;trouble&gt;" in client.get(reverse("status:page")).content.decode()


def test_old_news_is_marked_as_such(client):
    old = {**cache.get(snapshot.KEY), "at": (datetime.now(UTC) - timedelta(minutes=5)).isoformat()}
    cache.set(snapshot.KEY, old)
    with mock.patch.object(snapshot, "refresh", side_effect=OperationalError("away")):
        assert client.get(reverse("status:json")).json()["is_stale"] is True
        assert "Live data is not available" in client.get(reverse("status:page")).content.decode()


def test_json(client):
    found = client.get(reverse("status:json")).json()
    acme = next(service for service in found["services"] if service["slug"] == "acme")
    assert found["status"] == acme["state"] == "partial_outage"
    assert (acme["uptime"], len(acme["days"]), acme["days"][0]["state"]) == ("90.00", 90, "unknown")
    assert acme["days"][-1] | {"day": ""} == {"day": "", "state": "major_outage", "uptime": "90.00", "down_s": 1_000}
    new, old = found["incidents"]
    assert (new["status"], old["status"], old["updates"][0]["body"]) == ("investigating", "resolved", "Over.")
    assert "providers" not in json.dumps(found["incidents"])


def test_rss_has_an_item_for_each_update(client):
    root = ElementTree.fromstring(client.get(reverse("status:rss")).content)
    titles = [item.findtext("title") for item in root.iter("item")]
    assert sorted(titles) == ["New <trouble> (investigating)", "Old trouble (investigating)", "Old trouble (resolved)"]
    assert len({item.findtext("guid") for item in root.iter("item")}) == 3


def test_badges(client):
    drawn = client.get(reverse("status:badge", args=["acme"]))
    assert drawn["content-type"] == "image/svg+xml"
    root = ElementTree.fromstring(drawn.content)
    assert root.get("aria-label") == "Acme <&>: partial outage"
    assert client.get(reverse("status:badge", args=["all"])).status_code == 200
    assert client.get(reverse("status:badge", args=["none"])).status_code == 404


def test_history_is_paged_with_few_queries(client, django_assert_max_num_queries):
    for number in range(25):
        incidents.announce(title=f"No {number}", body="b", severity="low", services=[], by=None)
    with django_assert_max_num_queries(5):
        first = client.get(reverse("status:history")).content.decode()
    assert "Older" in first
    assert "Old trouble" in client.get(reverse("status:history"), {"page": 2}).content.decode()


def test_one_incident(client):
    incident = Incident.objects.get(title="Old trouble")
    text = client.get(reverse("status:incident", args=[incident.public_id])).content.decode()
    assert text.index("Over.") < text.index("It was slow.")
    into = Incident.objects.get(title="New <trouble>")
    incidents.merge(incident=incident, into=into, by=None)
    snapshot.refresh()
    moved = client.get(reverse("status:incident", args=[incident.public_id]))
    assert moved["location"] == reverse("status:incident", args=[into.public_id])
    assert client.get(reverse("status:incident", args=["nothing"])).status_code == 404


def test_subscribing_on_the_pages(client):
    assert client.post(reverse("status:subscribe"), {"email": "no"}).status_code == 422
    assert "ada@example.com" in client.post(reverse("status:subscribe"), {"email": "ada@example.com"}).content.decode()
    token = Subscriber.objects.get().token
    assert client.get(reverse("status:confirm", args=[token])).status_code == 200
    assert Subscriber.objects.get().confirmed_at is None  # a link that a scanner followed confirms nothing
    assert client.post(reverse("status:confirm", args=[token])).status_code == 200
    assert Subscriber.objects.get().confirmed_at is not None
    one_click = Client(enforce_csrf_checks=True)
    assert one_click.get(reverse("status:unsubscribe", args=[token])).status_code == 200
    assert one_click.post(reverse("status:unsubscribe", args=[token])).status_code == 200
    assert not Subscriber.objects.exists()
    assert client.post(reverse("status:confirm", args=[token])).status_code == 410


def test_nobodys_mailbox_is_filled_with_questions(client, monkeypatch):
    """Each server's address makes another question to the same mailbox, with words of whoever asks in it."""
    monkeypatch.setattr(ratelimit, "consume", lambda request, action: True)
    for number in range(6):
        asked = {"email": "ada@example.com", "url": f"https://example.com/{number}"}
        assert client.post(reverse("status:subscribe"), asked).status_code == 200
    assert len(mail.outbox) == subscriptions.MAX_ASKED
    monkeypatch.setattr(ratelimit, "consume", lambda request, action: False)
    refused = client.post(reverse("status:subscribe"), {"email": "eve@example.com"})
    assert (refused.status_code, len(mail.outbox)) == (422, subscriptions.MAX_ASKED)
    assert "Too many" in refused.content.decode()
