"""Events reach webhooks once at least, signed, again after failures; what never arrives is kept."""

import base64
import hashlib
import hmac
import json
import re
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from shutil import which
from typing import Any

import httpx
import pytest
from django.core import mail
from django.db import connection
from django.utils import timezone

from accounts import deliveries, events, outgoing, signing, webhooks
from accounts.models import Delivery, DispatchCursor, Event, Organization, Role, Webhook
from accounts.tests.factories import MembershipFactory, OrganizationFactory, UserFactory, issue

pytestmark = pytest.mark.django_db(transaction=True)

DOCS = Path(__file__).parents[2] / "docs" / "webhooks.md"


class Server:
    """What stands for a customer's server: answers in turn, the last answer again and again."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers) or [200]
        self.seen: list[tuple[str, bytes, dict[str, str]]] = []

    def __call__(self, url: str, *, body: bytes, headers: dict[str, str]) -> tuple[int, bytes]:
        self.seen.append((url, body, headers))
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer, b"received\0 \xff" + b"x" * 5_000


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    made = Server()
    monkeypatch.setattr(outgoing, "post", made)
    return made


@pytest.fixture
def organization() -> Organization:
    return OrganizationFactory()


def _add(organization: Organization, *kinds: str, path: str = "") -> webhooks.Made:
    return webhooks.add(organization=organization, url=f"https://hooks.example/{path}", kinds=kinds, by=None)


def _record(organization: Organization, kind: str = "credits.low", **data: Any) -> Event:
    return events.record(organization=organization, kind=kind, data=data)


def _run() -> None:
    deliveries.dispatch()
    deliveries.send_due()


def _verifies(secret: str, body: bytes, headers: dict[str, str]) -> bool:
    """As the specification says, written again."""
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    key = base64.b64decode(secret.removeprefix("whsec_"))
    expected = "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    return expected in headers["webhook-signature"].split(" ")


def test_an_event_arrives_signed(server, organization):
    made = _add(organization)
    event = _record(organization, available="3.5000")
    _run()
    (url, body, headers), delivery = server.seen[0], Delivery.objects.get()
    assert url == "https://hooks.example/"
    told = json.loads(body)
    assert (told["type"], told["data"]) == ("credits.low", {"available": "3.5000"})
    assert told["organization"] == organization.slug
    assert headers["webhook-id"] == told["id"] == f"msg_{event.public_id.hex}"
    assert _verifies(made.secret, body, headers)
    assert (delivery.state, delivery.attempts, delivery.last_status) == ("delivered", 1, 200)
    attempt = delivery.tries.get()
    assert attempt.response.startswith("received� �xxx")
    assert len(attempt.response) <= deliveries.MAX_RESPONSE


def test_an_event_goes_to_those_that_want_it_and_once(server, organization):
    _add(organization, path="all")
    _add(organization, "key.created", path="keys")
    off = _add(organization, path="off").webhook
    webhooks.change(webhook=off, url=off.url, kinds=[], description="", is_enabled=False, by=None)
    _add(OrganizationFactory(), path="others")
    _record(organization)
    issue(organization)
    _run()
    _run()
    seen = sorted((url.rpartition("/")[2], json.loads(body)["type"]) for url, body, _ in server.seen)
    assert seen == [("all", "credits.low"), ("all", "key.created"), ("keys", "key.created")]


def test_what_happened_before_a_webhook_was_added_is_not_sent(server, organization):
    _record(organization)
    _add(organization)
    _run()
    assert server.seen == []


def test_a_failure_is_tried_again_later_and_later(server, organization):
    server.answers = [500, httpx.ConnectTimeout("slow"), outgoing.ForbiddenAddress("not public"), 302, 204]
    _add(organization)
    _record(organization)
    deliveries.dispatch()
    waits = []
    for _ in range(5):
        Delivery.objects.update(next_at=timezone.now())
        began = timezone.now()
        deliveries.send_due()
        waits.append((Delivery.objects.get().next_at - began).total_seconds())
    delivery = Delivery.objects.get()
    assert delivery.state == "delivered"
    assert [attempt.status for attempt in delivery.tries.order_by("pk")] == [500, None, None, 302, 204]
    for wait, delay in zip(waits[:4], deliveries.DELAYS, strict=False):
        assert 0.75 * delay.total_seconds() < wait < 1.25 * delay.total_seconds() + 5


def test_the_retries_take_about_a_day():
    assert timedelta(hours=23) < sum(deliveries.DELAYS, timedelta()) < timedelta(hours=25)


def test_what_never_arrives_is_a_dead_letter_and_can_be_replayed(server, organization):
    server.answers = [503]
    made = _add(organization)
    _record(organization)
    deliveries.dispatch()
    for _ in range(deliveries.MAX_ATTEMPTS + 2):
        Delivery.objects.update(next_at=timezone.now())
        deliveries.send_due()
    delivery = Delivery.objects.get()
    assert (delivery.state, delivery.attempts) == ("dead", deliveries.MAX_ATTEMPTS)
    assert len(server.seen) == deliveries.MAX_ATTEMPTS
    server.answers = [200]
    assert deliveries.replay([delivery], webhook=made.webhook, by=UserFactory()) == 1
    _run()
    delivery.refresh_from_db()
    assert (delivery.state, delivery.tries.count()) == ("delivered", deliveries.MAX_ATTEMPTS + 1)
    assert len({headers["webhook-id"] for _, _, headers in server.seen}) == 1


def test_a_webhook_of_another_organization_replays_nothing_of_ours(server, organization):
    made, other = _add(organization), _add(OrganizationFactory())
    delivery = Delivery.objects.create(webhook=made.webhook, event=_record(organization), state="dead")
    assert deliveries.replay([delivery], webhook=other.webhook, by=None) == 0


def test_a_server_that_fails_for_days_is_turned_off_and_its_owner_told(server, organization):
    server.answers = [500]
    MembershipFactory(organization=organization, role=Role.DEVELOPER, user__email="dev@example.com")
    made = _add(organization)
    _record(organization)
    _run()
    Webhook.objects.update(failing_since=timezone.now() - deliveries.TURN_OFF_AFTER)
    _record(organization)
    _run()
    webhook = Webhook.objects.get()
    assert (webhook.is_enabled, webhook.off_reason) == (False, "failing")
    assert set(Delivery.objects.values_list("state", flat=True)) == {"dead"}
    assert mail.outbox[-1].bcc == ["dev@example.com"]
    with pytest.raises(deliveries.NotEnabled):
        deliveries.replay(Delivery.objects.all(), webhook=webhook, by=None)
    fields = {"url": made.webhook.url, "kinds": [], "description": ""}
    webhooks.change(webhook=webhook, is_enabled=True, by=None, **fields)
    assert (webhook.off_reason, webhook.failing_since) == ("", None)


def test_one_that_says_gone_is_turned_off_at_once(server, organization):
    server.answers = [410]
    _add(organization)
    _record(organization)
    _run()
    assert Webhook.objects.get().off_reason == "gone"


def test_a_success_ends_a_row_of_failures(server, organization):
    server.answers = [500, 200]
    _add(organization)
    _record(organization)
    _run()
    assert Webhook.objects.get().failing_since is not None
    Delivery.objects.update(next_at=timezone.now())
    _run()
    assert Webhook.objects.get().failing_since is None


def test_while_a_secret_is_rotated_both_sign(server, organization):
    old = _add(organization)
    new = webhooks.rotate(webhook=old.webhook, overlap=timedelta(hours=24), by=None)
    _record(organization)
    _run()
    Webhook.objects.update(old_secret_until=timezone.now())
    _record(organization)
    _run()
    signed = [[_verifies(made.secret, body, headers) for made in (old, new)] for _, body, headers in server.seen]
    assert signed == [[True, True], [False, True]]
    assert old.secret not in str(Webhook.objects.values().get())


def test_a_worker_that_dies_while_it_sends_loses_nothing(server, organization):
    _add(organization)
    _record(organization)
    deliveries.dispatch()
    assert len(deliveries._claim()) == 1  # and never sent
    assert deliveries.send_due() == 0
    Delivery.objects.update(next_at=timezone.now())
    assert deliveries.send_due() == 1


def test_a_slow_server_does_not_hold_up_the_others(server, organization):
    _add(organization, "credits.low")
    _add(organization, "credits.purchased")
    for _ in range(deliveries.SEND_BATCH + 5):
        _record(organization)
    _record(organization, "credits.purchased")
    deliveries.dispatch()
    claimed = deliveries._claim()
    assert sorted({each.event.kind for each in claimed}) == ["credits.low", "credits.purchased"]
    assert len(claimed) == deliveries.PER_WEBHOOK + 1


def test_a_test_is_sent_now_and_is_not_in_the_feed(server, organization):
    made = _add(organization, "key.created")
    _add(organization)
    sent = deliveries.send_test(webhook=made.webhook, by=UserFactory())
    assert sent.state == "delivered"
    _run()
    assert len(server.seen) == 1
    assert events.since(events.Cursor(), limit=10, organization=organization) == []


@pytest.mark.parametrize(
    "url",
    [
        "http://hooks.example/", "https://u:p@hooks.example/", "https://hooks.example:22/", "https://127.0.0.1/",
        "https://hooks.internal/",
    ],
)  # fmt: skip
def test_addresses_that_are_never_called_are_refused(organization, url):
    with pytest.raises(webhooks.InvalidWebhook) as refused:
        webhooks.add(organization=organization, url=url, by=None)
    assert refused.value.field == "url"
    with pytest.raises(webhooks.InvalidWebhook):
        webhooks.add(organization=organization, url="https://hooks.example/", kinds=["no.such"], by=None)


def test_a_private_address_of_before_is_not_called_and_can_be_turned_off(organization):
    made = _add(organization).webhook
    Webhook.objects.update(url="https://127.0.0.1/")
    made.refresh_from_db()
    _record(organization)
    _run()
    assert "not on the public internet" in Delivery.objects.get().tries.get().error
    fields = {"webhook": made, "kinds": [], "description": "", "by": None}
    with pytest.raises(webhooks.InvalidWebhook):
        webhooks.change(**fields, url=made.url, is_enabled=True)
    with pytest.raises(webhooks.InvalidWebhook):
        webhooks.change(**fields, url="https://[::1]/", is_enabled=False)
    webhooks.change(**fields, url=made.url, is_enabled=False)
    assert not Webhook.objects.get().is_enabled


def test_the_feed_never_passes_over_what_commits_later(organization):
    late = connection.copy()
    try:
        late.set_autocommit(False)
        with late.cursor() as cursor:
            cursor.execute(
                "INSERT INTO accounts_event (public_id, organization_id, kind, data, created_at) "
                "VALUES (gen_random_uuid(), %s, 'credits.low', '{}', now())",
                [organization.pk],
            )
        _record(organization, "credits.purchased")
        assert events.since(events.Cursor(), limit=10) == []
        late.commit()
    finally:
        late.close()
    seen = events.since(events.Cursor(), limit=10)
    assert [event.kind for event in seen] == ["credits.low", "credits.purchased"]
    assert events.since(events.Cursor.of(seen[0]), limit=10) == seen[1:]


def test_events_of_a_restored_dump_come_before_what_happens_now(server, organization):
    old = _record(organization)
    Event.objects.update(transaction=2**60)
    DispatchCursor.objects.update_or_create(pk=1, defaults={"transaction": 2**60, "event": old.pk})
    _add(organization)
    _record(organization, "credits.purchased")
    _run()
    assert [json.loads(body)["type"] for _, body, _ in server.seen] == ["credits.purchased"]
    asked = events.since(events.Cursor(2**60, old.pk), limit=10)
    assert [event.kind for event in asked] == ["credits.purchased"]


def test_old_events_are_forgotten_with_their_deliveries(server, organization):
    _add(organization)
    _record(organization)
    _run()
    Event.objects.update(created_at=timezone.now() - events.KEPT_FOR)
    _record(organization)
    events.forget_old()
    assert (Event.objects.count(), Delivery.objects.count()) == (1, 0)


@pytest.mark.parametrize(("language", "command"), [("python", [sys.executable, "-"]), ("javascript", ["node", "-"])])
def test_the_snippets_of_the_docs_verify(language, command):
    if which(command[0]) is None:
        pytest.skip(f"no {command[0]} on PATH")
    snippet = re.search(rf"```{language}\n(.*?)```", DOCS.read_text(), re.S)[1]
    secret, body = signing.new_secret(), '{"type":"credits.low","data":{"note":"é"}}'
    good = signing.headers_of("msg_1", body.encode(), signing.new_secret(), secret)
    old = signing.headers_of("msg_1", body.encode(), secret, at=1_700_000_000)
    calls = [(body, good), (body + " ", good), (body, old)]
    given, key = json.dumps(calls), json.dumps(secret)
    if language == "python":
        check = f"for body, headers in {given}:\n    print(verify(body.encode(), headers, {key}))"
    else:
        check = f"for (const [body, headers] of {given}) console.log(verify(Buffer.from(body), headers, {key}));"
    text = f"{snippet}\n{check}\n"
    done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.lower().split() == ["true", "false", "false"]
