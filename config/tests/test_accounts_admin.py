"""Django's admin of organizations, members, invitations, webhooks and the audit log."""

from typing import Any

import pytest
from django.contrib.auth.models import Permission
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from accounts import closing, exports
from accounts.models import Delivery, Membership, Organization, Webhook
from config.tests import pages_kit
from config.tests.pages_kit import Cast

pytestmark = pytest.mark.django_db

MODELS = (
    "user", "organization", "membership", "invitation", "organizationexport", "apikey", "webhook", "delivery", "event",
    "auditentry",
)  # fmt: skip


@pytest.fixture
def cast() -> Cast:
    made = pages_kit.cast()
    pages_kit.key_of(made.organization)
    pages_kit.invitation(made.organization)
    pages_kit.delivery(made.organization)
    exports.request(organization=made.organization, by=made.users["owner"])
    return made


@pytest.fixture
def client() -> Client:
    client = Client()
    root = pages_kit.person("root", is_staff=True, is_superuser=True)
    client.force_login(root, backend="django.contrib.auth.backends.ModelBackend")
    return client


def _act(client: Client, model: str, action: str, *rows: Any) -> None:
    address = reverse(f"admin:accounts_{model}_changelist")
    answer = client.post(address, {"action": action, "_selected_action": [row.pk for row in rows]})
    assert answer.status_code == 302, answer.content


@pytest.mark.parametrize("model", MODELS)
def test_every_list_is_found_searched_and_opened(cast: Cast, client: Client, model: str) -> None:
    listed = client.get(reverse(f"admin:accounts_{model}_changelist"), {"q": "a"})
    assert listed.status_code == 200
    row = listed.context["cl"].model.objects.first()
    opened = client.get(reverse(f"admin:accounts_{model}_change", args=[row.pk]))
    assert opened.status_code == 200
    for webhook in Webhook.objects.all():
        assert webhook.secret_encrypted not in opened.content.decode()


def test_sessions_are_searched_by_address(client: Client) -> None:
    assert client.get(reverse("admin:usersessions_usersession_changelist"), {"q": "root"}).status_code == 200


def test_freezing_is_undone_and_audited(cast: Cast, client: Client) -> None:
    organization = cast.organization
    for action, status in (("freeze", "frozen"), ("freeze", "frozen"), ("unfreeze", "active")):
        _act(client, "organization", action, organization)
        organization.refresh_from_db()
        assert organization.status == status
    actions = list(organization.audit_entries.order_by("pk").values_list("action", flat=True))
    assert actions[-2:] == ["organization.freeze", "organization.unfreeze"]


def test_staff_restore_what_is_being_deleted(cast: Cast, client: Client) -> None:
    closing.close(organization=cast.organization, by=cast.users["owner"])
    _act(client, "organization", "restore", cast.organization)
    cast.organization.refresh_from_db()
    assert cast.organization.status == Organization.Status.ACTIVE


def test_invitations_are_revoked(cast: Cast, client: Client) -> None:
    invitation = cast.organization.invitations.get()
    _act(client, "invitation", "revoke", invitation)
    invitation.refresh_from_db()
    assert invitation.revoked_at <= timezone.now()


def test_webhooks_are_turned_off_and_on_and_replayed(cast: Cast, client: Client) -> None:
    webhook, delivery = Webhook.objects.get(), Delivery.objects.get()
    _act(client, "webhook", "turn_off", webhook)
    _act(client, "delivery", "replay", delivery)
    delivery.refresh_from_db()
    assert delivery.state == Delivery.State.DEAD
    _act(client, "webhook", "turn_on", webhook)
    webhook.refresh_from_db()
    assert not webhook.is_enabled, "its address is private, as one may be from before that was looked at"
    Webhook.objects.update(url="https://hooks.example/")
    _act(client, "webhook", "turn_on", webhook)
    _act(client, "delivery", "replay", delivery)
    delivery.refresh_from_db()
    assert delivery.state == Delivery.State.PENDING
    Delivery.objects.update(state=Delivery.State.DEAD)
    _act(client, "webhook", "replay_dead", webhook)
    assert Delivery.objects.get().state == Delivery.State.PENDING


def test_what_staff_save_is_in_the_audit_log(cast: Cast, client: Client) -> None:
    membership = cast.organization.memberships.get(user=cast.users["viewer"])
    address = reverse("admin:accounts_membership_change", args=[membership.pk])
    fields = {"user": membership.user_id, "organization": membership.organization_id, "role": "billing"}
    assert client.post(address, fields).status_code == 302
    entry = cast.organization.audit_entries.last()
    assert (entry.action, entry.data["fields"], entry.actor.is_staff) == ("admin.change", ["Role"], True)
    assert client.post(reverse("admin:accounts_membership_delete", args=[membership.pk]), {"post": "yes"})
    assert not Membership.objects.filter(pk=membership.pk).exists()
    assert cast.organization.audit_entries.last().action == "admin.delete"


def test_staff_make_nobody_a_superuser_and_take_no_account(cast: Cast) -> None:
    """Who may change people could else tick 'superuser' for themselves, or have a superuser's new password mailed."""
    support = pages_kit.person("support", is_staff=True)
    support.user_permissions.set(Permission.objects.filter(codename__in=["view_user", "change_user", "delete_user"]))
    root = pages_kit.person("root", is_staff=True, is_superuser=True)
    customer = cast.users["viewer"]
    client = Client()
    client.force_login(support, backend="django.contrib.auth.backends.ModelBackend")
    asked = {"email": "mallory@example.com", "name": "M", "is_active": "on", "is_staff": "on", "is_superuser": "on"}
    for person, status in ((support, 403), (root, 403), (customer, 302)):
        email = person.email
        answer = client.post(reverse("admin:accounts_user_change", args=[person.pk]), asked)
        assert answer.status_code == status
        person.refresh_from_db()
        assert (person.email, person.is_superuser) == (email, person == root)
    assert (customer.name, customer.is_staff) == ("M", False)
    assert client.post(reverse("admin:accounts_user_delete", args=[root.pk]), {"post": "yes"}).status_code == 403
