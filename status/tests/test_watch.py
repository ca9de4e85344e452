"""Incidents that open, change and end by themselves, on a clock that the test turns."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from django.core import mail

from accounts import outgoing, signing
from accounts.models import User
from status import incidents, snapshot, subscriptions, traffic, watch
from status.models import Check, Incident, Maintenance, Notice, Service, ServiceDay, Subscriber, TrafficSample
from status.states import State

pytestmark = pytest.mark.django_db
NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)


class Clock:
    """Looks every 15 s; `requests` and `failures` are what the provider answers between two looks."""

    def __init__(self) -> None:
        self.now = NOON

    def looks(self, count: int, *, requests: int = 0, failures: int = 0, provider: str = "acme") -> None:
        for _ in range(count):
            self.now += timedelta(seconds=15)
            if requests:
                traffic.record([traffic.Sample(provider, "m", requests, failures, latency_ms_sum=requests * 100)])
                newest = TrafficSample.objects.latest("pk")
                TrafficSample.objects.filter(pk=newest.pk).update(at=self.now - timedelta(seconds=1))
            assert watch.look(self.now)


@pytest.fixture
def clock(settings) -> Clock:
    settings.STATUS_CALM_S = 120
    Service.objects.all().delete()
    return Clock()


@pytest.fixture
def service() -> Service:
    return Service.objects.create(slug="acme", name="Acme", provider="acme", group="Model providers")


def the_incident() -> Incident:
    return Incident.objects.get()


def test_a_failing_provider_opens_an_incident_within_a_minute_and_calm_ends_it(clock, service):
    clock.looks(2, requests=10)
    assert not Incident.objects.exists()
    clock.looks(4, requests=10, failures=10)
    incident = the_incident()
    assert (incident.updates.first().status, incident.fault) == ("investigating", "upstream")
    assert "requests failed" in incident.updates.first().body
    service.refresh_from_db()
    assert service.state > State.OPERATIONAL
    clock.looks(4, requests=40)
    assert the_incident().status in {"identified", "monitoring"}
    clock.looks(14, requests=40)
    incident = the_incident()
    assert incident.status == "resolved"
    assert incident.resolved_at is not None
    service.refresh_from_db()
    assert service.state == State.OPERATIONAL


def test_what_works_again_is_no_outage_while_its_recovery_is_watched(clock, service):
    check = Check.objects.create(service=service, kind=Check.Kind.HTTP, checked_at=NOON, failures=2, error="HTTP 503")
    clock.looks(3)
    service.refresh_from_db()
    assert service.current == State.MAJOR_OUTAGE
    Check.objects.filter(pk=check.pk).update(failures=0, error="")
    clock.looks(1)
    down_s = ServiceDay.objects.get().major_s
    clock.looks(5)
    service.refresh_from_db()
    assert (service.state, service.current) == (State.MAJOR_OUTAGE, State.DEGRADED_PERFORMANCE)
    day = ServiceDay.objects.get()
    assert (day.major_s, day.degraded_s) == (down_s, 75)
    Check.objects.filter(pk=check.pk).update(failures=2, error="HTTP 503")
    clock.looks(1)
    service.refresh_from_db()
    assert service.current == State.MAJOR_OUTAGE


def test_one_bad_look_opens_nothing(clock, service):
    clock.looks(1, requests=10, failures=10)
    TrafficSample.objects.all().delete()
    clock.looks(5, requests=10)
    assert not Incident.objects.exists()


def test_a_worse_state_is_told_in_the_same_incident(clock, service):
    clock.looks(4, requests=100, failures=8)
    assert the_incident().severity == "medium"
    clock.looks(5, requests=100, failures=90)
    incident = the_incident()
    assert incident.severity == "critical"
    assert incident.updates.count() >= 2


def test_a_service_that_flaps_keeps_one_incident(clock, service):
    for _ in range(3):
        clock.looks(5, requests=10, failures=10)
        clock.looks(20, requests=10)
        Incident.objects.exclude(resolved_at=None).update(resolved_at=datetime.now(UTC))
    incident = the_incident()
    assert incident.status == "resolved"
    assert [update.status for update in incident.updates.all()].count("resolved") == 3


def test_probes_speak_too_and_say_whose_fault_it_is(clock, service):
    check = Check.objects.create(service=service, kind=Check.Kind.HTTP, target="/x", checked_at=NOON)
    clock.looks(2)
    assert not Incident.objects.exists()
    Check.objects.filter(pk=check.pk).update(failures=2, error="HTTP 503")
    clock.looks(2)
    assert the_incident().fault == "ours"
    assert "HTTP 503" in the_incident().updates.get().body


def test_maintenance_opens_no_incident(clock, service):
    work = Maintenance.objects.create(title="Move", starts_at=NOON, ends_at=NOON + timedelta(hours=1))
    work.services.add(service)
    clock.looks(6, requests=10, failures=10)
    assert not Incident.objects.exists()


def test_staff_take_over(clock, service):
    staff = User.objects.create_user("staff@example.com", is_staff=True)
    clock.looks(4, requests=10, failures=10)
    incidents.update(incident=the_incident(), status="identified", body="A cable was cut.", by=staff)
    clock.looks(30, requests=10)
    incident = the_incident()
    assert incident.status == "identified"
    assert incident.updates.last().body == "A cable was cut."
    assert incidents.resolve(incident=incident, body="Mended.", by=staff)
    assert not incidents.resolve(incident=incident, body="Mended.", by=staff)


def test_merging_ends_one_incident_in_the_other(clock, service):
    first = incidents.announce(title="A", body="a", severity="low", services=[service], by=None)
    second = incidents.announce(title="B", body="b", severity="low", services=[], by=None)
    incidents.merge(incident=second, into=first, by=None)
    second.refresh_from_db()
    assert (second.merged_into, second.status) == (first, "resolved")
    with pytest.raises(ValueError, match="another"):
        incidents.merge(incident=first, into=first, by=None)
    assert [one["title"] for one in snapshot.build(datetime.now(UTC))["incidents"]] == ["A"]


def test_days_count_what_was_seen(clock, service):
    clock.looks(3)
    assert not ServiceDay.objects.exists()  # neither a check nor a request: nobody saw it
    Check.objects.create(service=service, kind=Check.Kind.HTTP, checked_at=NOON)
    clock.now = datetime(2026, 11, 20, 23, 59, 0, tzinfo=UTC)
    clock.looks(9)  # the first look begins, eight spans of 15 s follow; three of them before midnight
    days = list(ServiceDay.objects.order_by("day").values_list("operational_s", flat=True))
    assert days == [45, 75]
    clock.now += timedelta(hours=3)
    clock.looks(1)
    assert sum(ServiceDay.objects.values_list("operational_s", flat=True)) == 45 + 75 + 90


def test_subscribers_hear_of_each_update_once_after_they_confirmed(clock, service):
    subscriptions.subscribe("Ada@example.com")
    subscriptions.subscribe("ada@example.com")
    assert len(mail.outbox) == 1
    ada = Subscriber.objects.get()
    clock.looks(4, requests=10, failures=10)
    assert not Notice.objects.exists()
    assert ada.token in mail.outbox[0].body
    assert subscriptions.confirm(ada.token)
    incidents.update(incident=the_incident(), status="identified", body="Found it.")
    assert subscriptions.send_due() == 1
    assert subscriptions.send_due() == 0
    told = mail.outbox[1]
    assert told.to == ["ada@example.com"]
    assert "Found it." in told.body
    assert told.extra_headers["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    assert subscriptions.unsubscribe(ada.token)
    incidents.resolve(incident=the_incident(), body="Over.")
    assert subscriptions.send_due() == 0


def test_servers_hear_by_signed_webhooks_and_are_tried_again(monkeypatch):
    with pytest.raises(outgoing.ForbiddenAddress):
        subscriptions.subscribe("ada@example.com", "http://hooks.example/")
    subscriptions.subscribe("ada@example.com", "https://hooks.example/x")
    assert "at the server https://hooks.example/x" in mail.outbox[0].body
    server = Subscriber.objects.get()
    confirmed = subscriptions.confirm(server.token)
    assert confirmed.secret.startswith("whsec_")
    assert subscriptions.confirm(server.token).secret == ""  # shown once
    calls, answers = [], [500, 200]

    def post(url, *, body, headers):
        calls.append((url, json.loads(body), headers, body))
        return answers.pop(0), b""

    monkeypatch.setattr(outgoing, "post", post)
    made = incidents.announce(title="A", body="It burns.", severity="high", services=[], by=None)
    assert subscriptions.send_due() == 0
    assert subscriptions.send_due() == 0  # later
    Notice.objects.update(next_at=datetime.now(UTC))
    assert subscriptions.send_due() == 1
    url, told, headers, body = calls[1]
    assert (url, told["type"], told["data"]["update"]) == ("https://hooks.example/x", "incident.updated", "It burns.")
    at = int(headers["webhook-timestamp"])
    assert headers | {"content-type": ""} == {
        **signing.headers_of(headers["webhook-id"], body, confirmed.secret, at=at), "content-type": ""
    }  # fmt: skip
    assert calls[0][2]["webhook-id"] == headers["webhook-id"]
    answers.append(204)
    incidents.resolve(incident=made, body="Out.")
    assert subscriptions.send_due() == 1
    assert calls[-1][1]["type"] == "incident.resolved"
    assert len(mail.outbox) == 1


def test_an_old_question_cannot_be_confirmed():
    subscriptions.subscribe("ada@example.com")
    Subscriber.objects.update(asked_at=datetime.now(UTC) - timedelta(days=3))
    assert not subscriptions.confirm(Subscriber.objects.get().token)
    assert not subscriptions.confirm("no-such-token")
    subscriptions.forget()
    assert not Subscriber.objects.exists()


def test_maintenance_is_announced_once():
    Subscriber.objects.create(email="ada@example.com", confirmed_at=NOON)
    work = Maintenance.objects.create(title="Move", starts_at=NOON, ends_at=NOON + timedelta(hours=1))
    assert incidents.announce_maintenance(work)
    assert not incidents.announce_maintenance(work)
    assert subscriptions.send_due() == 1
    assert "Move" in mail.outbox[0].subject
