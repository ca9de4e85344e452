"""People, keys and requests for the tests of the pages."""

import secrets
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from django.db.models import Sum
from django.test import Client
from django.utils import timezone

from accounts import api_sessions, events, invitations, keys, organizations, webhooks
from accounts.models import ApiKey, ApiSession, Delivery, Invitation, Membership, Organization, Role, User, Webhook
from billing import ledger, purchases, reselling, saved_views, settlement, subscriptions, transcripts
from billing.models import (
    BillingProfile,
    Order,
    Pack,
    Plan,
    Resale,
    SavedView,
    Subscription,
    TranscriptSettings,
    UsageRecord,
)
from billing.transcripts import Taken
from billing.usage import first_id_at
from gallery.models import Image
from gallery.tests import kit as gallery_kit
from proxy import conversations
from proxy.conversations import Said
from proxy.models import Conversation, Deployment, Model, Provider, RealtimeSession
from status import incidents
from status.models import Incident

ANONYMOUS, OUTSIDER, STAFF = "anonymous", "outsider", "staff"
PEOPLE = (ANONYMOUS, OUTSIDER, *Role.values, STAFF)


@dataclass
class Cast:
    """An organization with a member in every role, an outsider, and staff who are no members."""

    organization: Organization
    users: dict[str, User] = field(default_factory=dict)

    def client(self, who: str) -> Client:
        client = Client()
        if who != ANONYMOUS:
            client.force_login(self.users[who], backend="django.contrib.auth.backends.ModelBackend")
        return client


def cast() -> Cast:
    owner = person("owner")
    organization = organizations.create(name="Ada's engines", owner=owner, slug=f"ada-{secrets.token_hex(4)}")
    made = Cast(organization, {"owner": owner, OUTSIDER: person("outsider"), STAFF: person("staff", is_staff=True)})
    for role in Role.values:
        if role != Role.OWNER:
            made.users[role] = person(role)
            Membership.objects.create(organization=organization, user=made.users[role], role=role)
    return made


def person(name: str, **fields: Any) -> User:
    return User.objects.create_user(f"{name}-{secrets.token_hex(4)}@example.com", **fields)


def member(organization: Organization) -> Membership:
    """One more member."""
    return Membership.objects.create(organization=organization, user=person("member"), role=Role.VIEWER)


def invitation(organization: Organization) -> Invitation:
    """An open invitation, just sent."""
    email = f"guest-{secrets.token_hex(4)}@example.com"
    return invitations.invite(organization=organization, email=email, role=Role.VIEWER, by=person("host"))


def webhook(organization: Organization) -> Webhook:
    """A webhook to this machine, which is never called."""
    """One whose server is never reached: an address that was kept before private ones were refused."""
    made = webhooks.add(organization=organization, url="https://hooks.example/", by=None).webhook
    made.url = "https://127.0.0.1/hooks"
    made.save(update_fields=["url"])
    return made


def delivery(organization: Organization) -> Delivery:
    """One that has ended without success."""
    event = events.record(organization=organization, kind="key.created", data={"name": "server"})
    return Delivery.objects.create(webhook=webhook(organization), event=event, state=Delivery.State.DEAD, attempts=9)


def key_of(organization: Organization, name: str = "server", **fields: Any) -> ApiKey:
    return keys.issue(organization=organization, name=name, **fields).key


def request_of(key: ApiKey, at: datetime | None = None, **fields: Any) -> UsageRecord:
    """A usage record; its id is a UUIDv7 of `at`."""
    at = at or timezone.now()
    request_id = UUID(int=first_id_at(at).int | secrets.randbits(62))
    values = {
        "cost_nanos": 1_234_567,
        "hold_nanos": 9_000_000,
        "input_tokens": 1_200,
        "output_tokens": 34,
        "created_at": at,
        "model": "gpt-fast",
        "endpoint": "/v1/chat/completions",
        "outcome": "completed",
        "status_code": 200,
        "latency_ms": 812,
        "ttft_ms": 120,
        "provider": "sandbox",
        "deployment": "sandbox/gpt-fast",
        "service_tier": "default",
        "attempts": [{"deployment": "sandbox/gpt-fast", "status": 200, "error": "", "ms": 812}],
    }
    return UsageRecord.objects.create(
        request_id=request_id,
        account=ledger.account_of(key.organization),
        organization=key.organization,
        key=key,
        **values | fields,
    )


def settle(organization: Organization) -> None:
    """Settle what `request_of` has made: first the account owes it, as after a capture."""
    rows = UsageRecord.objects.filter(organization=organization, settled_at=None)
    account = ledger.account_of(organization)
    account.unsettled = rows.aggregate(total=Sum("cost_nanos"))["total"] or 0
    account.save(update_fields=["unsettled"])
    settlement.settle_account(account)


def view_of(user: User, organization: Organization, query: str = "model=a", name: str = "mine") -> SavedView:
    """A saved view of the request log."""
    membership = Membership.objects.get(user=user, organization=organization)
    return saved_views.save(membership=membership, name=name, query=query)


def words_of(record: UsageRecord, request: str = '{"model":"m"}', answer: str = "Hi!", days: int = 30) -> None:
    """The kept words of a request, of an organization that has switched this on."""
    TranscriptSettings.objects.get_or_create(organization_id=record.organization_id, defaults={"is_on": True})
    transcripts.keep([Taken(record.request_id, record.organization_id, days, request, answer)])


def image(organization: Organization, **fields: Any) -> Image:
    """A spooled image."""
    return gallery_kit.kept(organization, is_stored=False, **fields)


def api_session(user: User, organization: Organization) -> ApiSession:
    """A program that is signed in as `user`."""
    way = ApiSession.Way.DEVICE
    return api_sessions.begin(user=user, organization=organization, way=way, label="pixie").session


def session(organization: Organization) -> RealtimeSession:
    """A Realtime session that is open."""
    now = timezone.now()
    return RealtimeSession.objects.create(
        public_id=uuid4(), organization=organization, model="spoken", started_at=now, seen_at=now
    )


def speaking_model(name: str) -> None:
    """A model that speaks Realtime."""
    provider, _ = Provider.objects.get_or_create(slug="voices", kind="openai-compatible", base_url="https://voices/v1")
    model, _ = Model.objects.get_or_create(name=name, endpoints=["/v1/realtime"])
    Deployment.objects.get_or_create(model=model, provider=provider, upstream_name=name)


def resale(organization: Organization) -> Resale:
    """A customer of the organization's, which may resell."""
    BillingProfile.objects.update_or_create(organization=organization, defaults={"is_reseller": True})
    child = organizations.create(name="Child")
    return reselling.adopt(parent=organization, child=child, by=None)


def subscription(organization: Organization) -> Subscription:
    """A plan that is paid for; the one that is there if there is one."""
    if (known := subscriptions.current(organization)) is not None:
        return known
    ours = subscriptions.begin(organization=organization, plan=Plan.objects.get(slug="team"), by=None)
    ours.status = Subscription.Status.ACTIVE
    ours.stripe_id, ours.checkout_session_id = f"sub_{ours.public_id}", f"cs_{ours.public_id}"
    ours.save()
    return ours


def conversation(organization: Organization, author: User, text: str = "What is a tuppence?") -> Conversation:
    """A conversation with a question and its answer."""
    made, _ = conversations.start(
        organization=organization, author=author, model="gpt-fast", settings={}, said=Said(role="user", text=text)
    )
    conversations.say(conversation=made, said=Said(role="assistant", text="Two pence.", model="gpt-fast"))
    return made


def order(organization: Organization) -> Order:
    """A purchase whose checkout is open."""
    made = purchases.order(organization=organization, pack=Pack.objects.get(slug="popular"), by=None)
    made.checkout_session_id = f"cs_test_{secrets.token_hex(8)}"
    made.save()
    return made


def incident() -> Incident:
    return incidents.announce(title="Slow answers", body="We look.", severity="low", services=[], by=None)


def many_requests(key: ApiKey, count: int, *, step: timedelta = timedelta(seconds=1)) -> list[UsageRecord]:
    """`count` requests, the newest first."""
    now = timezone.now()
    return [request_of(key, now - step * number) for number in range(count)]
