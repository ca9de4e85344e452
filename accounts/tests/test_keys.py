from datetime import timedelta
from uuid import uuid4

import psycopg
import pytest
from django.conf import settings
from django.db import DatabaseError, connection, transaction
from django.utils import timezone

from accounts import key_format, keys
from accounts.models import ApiKey, AuditEntry, Organization
from accounts.tests.factories import OrganizationFactory, UserFactory, issue

pytestmark = pytest.mark.django_db


def test_only_the_digest_of_a_key_is_stored():
    issued = issue()
    row = ApiKey.objects.filter(pk=issued.key.pk).values().get()
    assert issued.secret not in str(row)
    assert issued.secret[19:-4] not in str(row)
    assert row["digest"] == key_format.digest_of(issued.secret, settings.API_KEY_PEPPER)
    assert issued.secret not in repr(issued)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", " "),
        ("scopes", ["everything"]),
        ("allowed_endpoints", ["/v1/unknown"]),
        ("allowed_ips", ["10.0.0.300"]),
        ("rpm", 0),
        ("tpm", -1),
        ("expires_at", timezone.now() - timedelta(seconds=1)),
    ],
)
def test_a_field_that_breaks_a_rule_is_named(field, value):
    with pytest.raises(keys.InvalidKey) as refused:
        issue(**{field: value})
    assert refused.value.field == field
    assert not ApiKey.objects.exists()


def test_addresses_become_networks():
    assert issue(allowed_ips=["203.0.113.7", "2001:db8::1/64"]).key.allowed_ips == ["203.0.113.7/32", "2001:db8::/64"]


def test_the_same_form_sent_twice_makes_one_key():
    organization, token = OrganizationFactory(), uuid4()
    first = issue(organization, public_id=token)
    with pytest.raises(keys.AlreadyIssued) as refused:
        issue(organization, public_id=token)
    assert refused.value.key == first.key


def test_a_token_of_another_organization_tells_nothing():
    token = issue().key.public_id
    with pytest.raises(DatabaseError):
        issue(public_id=token)


def test_revoking_ends_a_key_once():
    key, by = issue().key, UserFactory()
    assert keys.revoke(key=key, by=by)
    ended_at = key.revoked_at
    assert not key.is_live
    assert not keys.revoke(key=key, by=by)
    assert key.revoked_at == ended_at
    assert AuditEntry.objects.filter(action="key.revoke", actor=by).count() == 1
    assert ApiKey.objects.live().count() == 0


def test_a_rotated_key_works_until_its_grace_ends():
    old = issue(rpm=5, scopes=["chat"]).key
    new = keys.rotate(key=old, by=None, grace=timedelta(hours=1))
    old.refresh_from_db()
    assert old.is_live
    assert timedelta(minutes=59) < old.revoked_at - timezone.now() <= timedelta(hours=1)
    assert (new.key.rpm, new.key.scopes, new.key.rotated_from) == (5, ["chat"], old)
    assert keys.revoke(key=old, by=None)
    assert not old.is_live


def test_a_dead_key_has_no_successor():
    key = issue().key
    keys.revoke(key=key, by=None)
    with pytest.raises(keys.InvalidKey):
        keys.rotate(key=key, by=None, grace=timedelta(0))


def test_rotation_never_lengthens_a_grace():
    key = issue().key
    keys.rotate(key=key, by=None, grace=timedelta(minutes=1))
    keys.rotate(key=key, by=None, grace=timedelta(days=1))
    key.refresh_from_db()
    assert key.revoked_at - timezone.now() < timedelta(minutes=2)


def test_the_audit_log_cannot_be_changed():
    issue()
    for statement in ("UPDATE accounts_auditentry SET action = 'x'", "DELETE FROM accounts_auditentry"):
        with pytest.raises(DatabaseError, match="append-only"), transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(statement)


@pytest.mark.django_db(transaction=True)
def test_every_worker_hears_of_a_change():
    issued = issue()
    organization = issued.key.organization
    parameters = connection.get_connection_params()
    dsn = {name: parameters[name] for name in ("dbname", "user", "password", "host", "port") if parameters.get(name)}
    with psycopg.connect(**dsn, autocommit=True) as listener:
        listener.execute("LISTEN tuppence_keys")
        listener.execute("LISTEN tuppence_organizations")
        keys.record_use([issued.key.pk])
        keys.revoke(key=issued.key, by=None)
        Organization.objects.filter(pk=organization.pk).update(status=Organization.Status.FROZEN)
        heard = [(notice.channel, notice.payload) for notice in listener.notifies(timeout=5, stop_after=2)]
    assert heard == [("tuppence_keys", issued.key.digest), ("tuppence_organizations", str(organization.pk))]


def test_a_keys_use_is_noted_once_a_minute(monkeypatch, django_assert_num_queries):
    """However often it is used, and by however many workers; a few statements for however many keys."""
    monkeypatch.setattr(keys, "NOTED_AT_ONCE", 2)
    fresh, busy, idle = (issue().key for _ in range(3))
    now = timezone.now()
    just_now, long_ago = now - timedelta(seconds=30), now - timedelta(minutes=2)
    ApiKey.objects.filter(pk=busy.pk).update(last_used_at=just_now)
    ApiKey.objects.filter(pk=idle.pk).update(last_used_at=long_ago)
    with django_assert_num_queries(2):
        keys.record_use([idle.pk, fresh.pk, busy.pk])
    for key in (fresh, busy, idle):
        key.refresh_from_db()
    assert busy.last_used_at == just_now
    assert fresh.last_used_at > just_now
    assert idle.last_used_at > just_now
