"""Inviting, roles, handing over, settings, exporting, deleting and the audit log, as the pages do them."""

import csv
import io
import json
import re
import zipfile
from datetime import timedelta
from html import unescape
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from allauth.account.models import EmailAddress
from django.core import mail
from django.db import DatabaseError, connection, transaction
from django.http import HttpResponse
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from accounts import audit, closing, exports, invitations, keys, organizations
from accounts.models import ApiKey, AuditEntry, Event, Invitation, Membership, Organization, Role, User
from billing import ledger
from billing.money import NANOS_PER_CREDIT
from config.tests import pages_kit
from config.tests.pages_kit import Cast
from gallery.models import Image

pytestmark = pytest.mark.django_db


@pytest.fixture
def cast() -> Cast:
    return pages_kit.cast()


@pytest.fixture
def storage(settings: Any, tmp_path: Path) -> Path:
    settings.MEDIA_ROOT = tmp_path
    return tmp_path


def _address(name: str, cast: Cast, *rest: object) -> str:
    return reverse(f"accounts:{name}", args=[cast.organization.slug, *rest])


def _text(response: HttpResponse) -> str:
    return unescape(response.content.decode())


def _invited(cast: Cast, email: str = "new@example.com", role: str = Role.DEVELOPER) -> str:
    """Invite from the page; the path of the link in the mail."""
    answer = cast.client("admin").post(_address("team", cast), {"email": email, "role": role})
    assert answer.status_code == 302
    return _link()


def _link() -> str:
    found = re.search(r"http://localhost:8000(/invitations/\S+)", str(mail.outbox[-1].body))
    assert found
    return found[1]


def _logged_in(user: User) -> Client:
    client = Client()
    client.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
    return client


# ---------------------------------------------------------------- Invitations


def test_somebody_with_an_account_accepts(cast: Cast) -> None:
    guest = pages_kit.person("guest")
    path = _invited(cast, guest.email.upper())
    assert mail.outbox[-1].to == [guest.email]
    assert guest.email in _text(cast.client("admin").get(_address("team", cast)))
    client = _logged_in(guest)
    assert "Accept" in _text(client.get(path))
    answer = client.post(path)
    assert answer["location"] == reverse("proxy:overview", args=[cast.organization.slug])
    assert cast.organization.memberships.get(user=guest).role == Role.DEVELOPER
    assert client.post(path).status_code == 410
    actions = list(cast.organization.audit_entries.order_by("pk").values_list("action", flat=True))
    assert actions[-3:] == ["invitation.send", "invitation.accept", "member.add"]


def test_somebody_without_an_account_signs_up_and_accepts(cast: Cast) -> None:
    path = _invited(cast)
    client = Client()
    page = _text(client.get(path))
    assert cast.organization.name in page
    signup = re.search(r'href="(/accounts/signup/[^"]+)"', page)
    assert signup
    assert "new@example.com" in _text(client.get(signup[1]))
    credentials = {"email": "new@example.com", "password1": "copper-pine-42", "password2": "copper-pine-42"}
    answer = client.post(reverse("account_signup"), credentials | {"next": path})
    assert answer["location"] == path
    assert client.post(path).status_code == 302
    assert cast.organization.memberships.filter(user__email="new@example.com").exists()


def test_the_link_is_for_the_invited_address_alone(cast: Cast) -> None:
    path, other = _invited(cast), pages_kit.person("other")
    client = _logged_in(other)
    assert "You are signed in as" in _text(client.get(path))
    assert client.post(path).status_code == 403
    address = EmailAddress.objects.create(user=other, email="new@example.com", verified=False)
    assert client.post(path).status_code == 403
    address.verified = True
    address.save()
    assert client.post(path).status_code == 302


def test_the_token_is_not_stored(cast: Cast) -> None:
    token = _invited(cast).strip("/").rpartition("/")[2]
    row = Invitation.objects.values().get()
    assert token not in str(row)
    assert token not in str(list(AuditEntry.objects.values()))


def test_an_invitation_ends_by_time_by_revoking_and_by_a_newer_mail(cast: Cast) -> None:
    guest = pages_kit.person("guest")
    first = _invited(cast, guest.email)
    found = Invitation.objects.get()
    admin, client = cast.client("admin"), _logged_in(guest)
    assert admin.post(_address("invitation-resend", cast, found.public_id)).status_code == 302
    assert len(mail.outbox) == 1, "a minute must pass before the next mail"
    Invitation.objects.update(sent_at=timezone.now() - timedelta(minutes=2), expires_at=timezone.now())
    assert client.get(first).status_code == 410
    admin.post(_address("invitation-resend", cast, found.public_id))
    second = _link()
    assert second != first
    assert client.get(first).status_code == 410
    assert client.get(second).status_code == 200
    admin.post(_address("invitation-revoke", cast, found.public_id))
    assert client.post(second).status_code == 410
    assert not cast.organization.memberships.filter(user=guest).exists()


def test_members_and_the_invited_are_not_invited_again(cast: Cast) -> None:
    admin = cast.client("admin")
    _invited(cast)
    for email in ("New@example.com", cast.users["viewer"].email):
        answer = admin.post(_address("team", cast), {"email": email, "role": "viewer"})
        assert answer.status_code == 422
    assert admin.post(_address("team", cast), {"email": "x@example.com", "role": "owner"}).status_code == 422
    assert len(mail.outbox) == 1


def test_there_is_an_end_to_the_mails(cast: Cast, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(invitations, "MAX_OPEN", 1)
    _invited(cast)
    answer = cast.client("admin").post(_address("team", cast), {"email": "x@example.com", "role": "viewer"})
    assert "open invitations" in _text(answer)


def test_inviting_and_revoking_by_turns_ends_too(cast: Cast, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else whoever signs up can fill a stranger's mailbox with words of their own, from as many organizations."""
    monkeypatch.setattr(invitations, "MAX_SENT", 2)
    owner = cast.users["owner"]
    other = organizations.create(name="Other", owner=owner)
    for organization in (cast.organization, other):
        made = invitations.invite(organization=organization, email="x@example.com", role=Role.VIEWER, by=owner)
        invitations.revoke(invitation=made, by=owner)
    with pytest.raises(invitations.TooMany):
        invitations.invite(organization=cast.organization, email="x@example.com", role=Role.VIEWER, by=owner)
    invitations.invite(organization=cast.organization, email="y@example.com", role=Role.VIEWER, by=owner)


def test_a_mail_that_cannot_be_sent_is_told(cast: Cast, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(message: Any) -> None:
        raise ConnectionRefusedError

    monkeypatch.setattr(invitations.EmailMessage, "send", fails)
    answer = cast.client("admin").post(
        _address("team", cast), {"email": "x@example.com", "role": "viewer"}, follow=True
    )
    assert "could not be sent" in _text(answer)
    assert "Not sent" in _text(answer)


# ---------------------------------------------------------------- Members


def test_a_role_is_changed_and_the_owners_is_not(cast: Cast) -> None:
    viewer = cast.organization.memberships.get(user=cast.users["viewer"])
    owner = cast.organization.memberships.get(role=Role.OWNER)
    admin = cast.client("admin")
    admin.post(_address("member-role", cast, viewer.public_id), {"role": "billing"})
    admin.post(_address("member-role", cast, owner.public_id), {"role": "viewer"})
    admin.post(_address("member-role", cast, viewer.public_id), {"role": "owner"})
    viewer.refresh_from_db()
    owner.refresh_from_db()
    assert (viewer.role, owner.role) == (Role.BILLING, Role.OWNER)


def test_whoever_is_removed_may_take_their_keys_along(cast: Cast) -> None:
    developer = cast.users["developer"]
    own = keys.issue(organization=cast.organization, name="own", by=developer).key
    others = pages_kit.key_of(cast.organization)
    membership = cast.organization.memberships.get(user=developer)
    address = _address("member-remove", cast, membership.public_id)
    assert "Revoke the 1 key" in _text(cast.client("admin").get(address))
    cast.client("admin").post(address, {"revoke_keys": "1"})
    assert cast.client("developer").get(_address("team", cast)).status_code == 404
    assert [ApiKey.objects.get(pk=key.pk).is_live for key in (own, others)] == [False, True]


def test_members_leave_and_the_owner_stays(cast: Cast) -> None:
    cast.client("viewer").post(_address("leave", cast))
    cast.client("owner").post(_address("leave", cast))
    left = set(cast.organization.memberships.values_list("role", flat=True))
    assert left == {"owner", "admin", "developer", "billing"}
    assert cast.organization.audit_entries.first().action == "organization.create"
    assert cast.organization.audit_entries.filter(action="member.leave").count() == 1


def test_the_owner_hands_over(cast: Cast) -> None:
    heir = cast.organization.memberships.get(user=cast.users["developer"])
    address = _address("ownership", cast, heir.public_id)
    assert cast.client("owner").post(address, {"typed": cast.organization.slug}).status_code == 302
    roles = dict(cast.organization.memberships.values_list("user__email", "role"))
    assert roles[cast.users["developer"].email] == Role.OWNER
    assert roles[cast.users["owner"].email] == Role.ADMIN
    assert cast.client("owner").post(address, {"typed": cast.organization.slug}).status_code == 403


def test_the_team_of_another_organization_is_out_of_reach(cast: Cast) -> None:
    other = pages_kit.cast()
    theirs = other.organization.memberships.get(user=other.users["viewer"])
    for name in ("member-remove", "member-role", "ownership"):
        assert cast.client("owner").post(_address(name, cast, theirs.public_id)).status_code == 404
    invited = pages_kit.invitation(other.organization)
    for name in ("invitation-revoke", "invitation-resend"):
        assert cast.client("owner").post(_address(name, cast, invited.public_id)).status_code == 404
    assert Membership.objects.filter(pk=theirs.pk, role=Role.VIEWER).exists()


# ---------------------------------------------------------------- Settings


def test_an_organization_is_made_and_found_in_the_switcher() -> None:
    user = pages_kit.person("ada")
    client = _logged_in(user)
    answer = client.post(reverse("accounts:organization-create"), {"name": " Night  Shift ", "timezone": "Asia/Tokyo"})
    made = Organization.objects.get(slug="night-shift")
    assert answer["location"] == reverse("accounts:team", args=["night-shift"])
    assert (made.name, made.timezone, made.is_personal) == ("Night Shift", "Asia/Tokyo", False)
    assert "Night Shift" in _text(client.get(reverse("accounts:team", args=["night-shift"])))


def test_a_change_of_settings_is_audited_with_what_was(cast: Cast) -> None:
    cast.client("admin").post(
        _address("organization-settings", cast), {"name": "Ada's engines", "timezone": "Europe/Berlin"}
    )
    entry = cast.organization.audit_entries.last()
    assert entry.data == {"before": {"timezone": "UTC"}, "after": {"timezone": "Europe/Berlin"}}
    assert (entry.actor, entry.ip) == (cast.users["admin"], "127.0.0.1")


# ---------------------------------------------------------------- Export


def _exported(cast: Cast) -> dict[str, bytes]:
    """Ask for an export, make it, download it."""
    client = cast.client("owner")
    assert client.post(_address("export-list", cast)).status_code == 302
    assert "waits for a worker" in _text(client.get(_address("export-list", cast)))
    assert exports.make_due() == 1
    assert "Ready" in _text(client.get(_address("export-list", cast)))
    export = cast.organization.exports.get()
    answer = client.get(_address("export-download", cast, export.public_id))
    archive = zipfile.ZipFile(io.BytesIO(b"".join(answer)))
    return {name: archive.read(name) for name in archive.namelist()}


def test_an_export_has_everything_but_secrets(cast: Cast, storage: Path) -> None:
    issued = keys.issue(organization=cast.organization, name="=1+1", by=cast.users["developer"])
    record = pages_kit.request_of(issued.key)
    pages_kit.request_of(pages_kit.key_of(pages_kit.cast().organization))
    webhook = pages_kit.webhook(cast.organization)
    ledger.grant(
        organization=cast.organization, amount=5 * NANOS_PER_CREDIT, reason="thanks", idempotency_key=uuid4().hex
    )
    files = _exported(cast)
    assert {name.partition(".")[0] for name in files} >= {
        "organization",
        "members",
        "keys",
        "usage",
        "transfers",
        "audit",
    }
    told = json.loads(files["keys.json"])
    assert [(row["name"], row["created_by"]) for row in told] == [("=1+1", cast.users["developer"].email)]
    assert [row["request_id"] for row in json.loads(files["usage.json"])] == [str(record.request_id)]
    assert json.loads(files["transfers.json"])[0]["credits"] == "5.0000"
    rows = list(csv.DictReader(io.StringIO(files["keys.csv"].decode())))
    assert rows[0]["name"] == "'=1+1"
    everything = b"".join(files.values()).decode()
    assert issued.secret not in everything
    assert issued.key.digest not in everything
    assert webhook.secret_encrypted not in everything


def test_one_export_at_a_time_and_a_lost_worker_loses_none(cast: Cast, storage: Path) -> None:
    owner = cast.users["owner"]
    first = exports.request(organization=cast.organization, by=owner)
    assert exports.request(organization=cast.organization, by=owner) == first
    assert exports._claim() == first
    assert exports.make_due() == 0
    cast.organization.exports.update(touched_at=timezone.now() - timedelta(minutes=11))
    assert exports.make_due() == 1


def test_an_export_that_fails_says_so(cast: Cast, storage: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks(of: Organization) -> Any:
        raise RuntimeError

    monkeypatch.setitem(exports._parts, "keys", breaks)
    exports.request(organization=cast.organization, by=cast.users["owner"])
    exports.make_due()
    assert "Failed" in _text(cast.client("owner").get(_address("export-list", cast)))
    assert not any(storage.rglob("*.zip"))


def test_old_exports_are_deleted(cast: Cast, storage: Path) -> None:
    _exported(cast)
    assert any(storage.rglob("*.zip"))
    cast.organization.exports.update(expires_at=timezone.now())
    assert exports.tidy() == 1
    assert not any(storage.rglob("*.zip"))
    export = cast.organization.exports.get()
    assert cast.client("owner").get(_address("export-download", cast, export.public_id)).status_code == 404


# ---------------------------------------------------------------- Deleting


def _delete(cast: Cast) -> Any:
    return cast.client("owner").post(_address("organization-delete", cast), {"typed": cast.organization.slug})


def test_deleting_begins_with_an_export_and_can_be_undone(cast: Cast, storage: Path) -> None:
    assert _delete(cast).status_code == 302
    cast.organization.refresh_from_db()
    assert cast.organization.status == Organization.Status.CLOSING
    assert exports.make_due() == 1
    export = cast.organization.exports.get()
    assert export.expires_at >= cast.organization.deletes_at
    assert cast.users["admin"].email in mail.outbox[-1].bcc
    admin = cast.client("admin")
    assert "will be deleted" in _text(admin.get(_address("team", cast)))
    assert admin.post(_address("team", cast), {"email": "a@b.example", "role": "viewer"}).status_code == 403
    assert b"".join(admin.get(_address("export-download", cast, export.public_id))).startswith(b"PK")
    assert admin.post(_address("organization-restore", cast)).status_code == 403
    assert cast.client("owner").post(_address("organization-restore", cast)).status_code == 302
    cast.organization.refresh_from_db()
    assert (cast.organization.status, cast.organization.deletes_at) == (Organization.Status.ACTIVE, None)
    assert closing.delete_due() == 0


def test_after_the_grace_period_only_the_books_are_left(cast: Cast, storage: Path) -> None:
    organization = cast.organization
    key = pages_kit.key_of(organization)
    pages_kit.words_of(pages_kit.request_of(key))
    pages_kit.conversation(organization, cast.users["developer"])
    pages_kit.session(organization)
    pages_kit.image(organization)
    pages_kit.delivery(organization)
    pages_kit.invitation(organization)
    _exported(cast)
    _delete(cast)
    assert closing.delete_due() == 0
    Organization.objects.filter(pk=organization.pk).update(deletes_at=timezone.now())
    assert closing.delete_due() == 1
    assert closing.delete_due() == 0
    organization.refresh_from_db()
    assert organization.status == Organization.Status.DELETED
    assert (organization.name, organization.slug[:8]) == ("Deleted organization", "deleted-")
    key.refresh_from_db()
    assert not key.is_live
    for rows in (
        organization.memberships, organization.invitations, organization.webhooks, organization.events,
        organization.exports, organization.images, organization.transcripts, organization.conversations,
        organization.realtime_sessions,
    ):  # fmt: skip
        assert not rows.exists()
    assert organization.usage_records.count() == 1
    assert organization.audit_entries.last().action == "organization.delete"
    assert cast.client("owner").get(reverse("accounts:team", args=[organization.slug])).status_code == 404


def test_a_frozen_organization_is_not_deleted(cast: Cast) -> None:
    Organization.objects.filter(pk=cast.organization.pk).update(status=Organization.Status.FROZEN)
    assert _delete(cast).status_code == 422


# ---------------------------------------------------------------- Audit log


def test_the_audit_log_is_filtered_and_paged(cast: Cast) -> None:
    for number in range(60):
        audit.record(
            action="thing.do", target=cast.organization, organization=cast.organization, by=cast.users["viewer"],
            number=number,
        )  # fmt: skip
    admin = cast.client("admin")
    page = _text(admin.get(_address("audit", cast)))
    assert page.count("<code>thing.do</code>") == 50
    older = re.search(r'rel="next" href="([^"]+)"', page)
    assert older
    assert _text(admin.get(older[1])).count("<code>thing.do</code>") == 10
    viewer, today = cast.users["viewer"].pk, timezone.now().date()
    for query, expected in (
        (f"actor={viewer}", 50),
        (f"actor={cast.users['owner'].pk}", 0),
        ("action=thing.do", 50),
        ("action=organization.create", 0),
        (f"first_day={today + timedelta(days=2)}", 0),
        (f"last_day={today - timedelta(days=2)}", 0),
        (f"first_day={today}&last_day={today}", 50),
    ):
        assert _text(admin.get(f"{_address('audit', cast)}?{query}")).count("<code>thing.do</code>") == expected, query


def test_the_audit_log_as_csv_holds_no_formula(cast: Cast) -> None:
    audit.record(
        action="thing.do", target=cast.organization, organization=cast.organization, by=None,
        origin=audit.Origin(ip="203.0.113.9", user_agent="=HYPERLINK(1)", via="key sk-tup-abc"),
    )  # fmt: skip
    pages_kit.request_of(pages_kit.key_of(pages_kit.cast().organization))
    text = cast.client("admin").get(_address("audit-csv", cast) + "?action=thing.do").content.decode()
    (row,) = csv.DictReader(io.StringIO(text))
    assert (row["user_agent"], row["ip"], row["via"]) == ("'=HYPERLINK(1)", "203.0.113.9", "key sk-tup-abc")


@pytest.mark.parametrize("statement", ["UPDATE {} SET action = 'x'", "DELETE FROM {}", "TRUNCATE {} CASCADE"])
def test_the_audit_log_only_grows(cast: Cast, statement: str) -> None:
    before = AuditEntry.objects.count()
    with connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")  # nothing is pending: TRUNCATE would be refused for that
    with pytest.raises(DatabaseError, match="append-only"), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(statement.format(AuditEntry._meta.db_table))
    with pytest.raises(DatabaseError, match="append-only"), transaction.atomic():
        AuditEntry.objects.all().delete()
    assert AuditEntry.objects.count() == before > 0


def test_a_change_over_the_key_of_an_organization_writes_events(cast: Cast) -> None:
    key = pages_kit.key_of(cast.organization)
    keys.revoke(key=key, by=None)
    told = list(Event.objects.filter(organization=cast.organization).order_by("pk").values_list("kind", "data__name"))
    assert told == [("key.created", "server"), ("key.revoked", "server")]
    assert not Image.objects.exists()


# ---------------------------------------------------------------- Webhooks
def test_the_form_refuses_an_address_within_a_private_network(cast: Cast) -> None:
    form = {"url": "https://0x7f.1/hooks", "token": str(uuid4())}
    answer = cast.client("developer").post(_address("webhook-create", cast), form)
    assert answer.status_code == 422
    assert answer.context["form"].errors["url"] == ["The host is not on the public internet."]
    assert not cast.organization.webhooks.exists()


def test_the_same_form_sent_twice_adds_one_webhook(cast: Cast) -> None:
    address, client = _address("webhook-create", cast), cast.client("developer")
    form = {"url": "https://hooks.example/", "token": str(uuid4())}
    first, second = client.post(address, form), client.post(address, form)
    made = cast.organization.webhooks.get()
    assert (first.status_code, second.status_code) == (201, 302)
    assert second["location"] == _address("webhook", cast, made.public_id)
    other = pages_kit.cast()
    foreign = other.client("developer").post(_address("webhook-create", other), form)
    assert (foreign.status_code, other.organization.webhooks.count()) == (422, 0)
