"""Keeping the words of requests: off by default, redacted, encrypted, for a time; and who may read them."""

from datetime import timedelta
from html import unescape

import pytest
from django.db import connection
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from accounts import secrets
from accounts.models import ApiKey, AuditEntry
from billing import tasks, transcripts
from billing.models import Transcript, TranscriptSettings
from config.tests import pages_kit
from config.tests.pages_kit import Cast, key_of, request_of, words_of
from proxy.gateway import transcripts as gateway_transcripts
from proxy.key_snapshots import snapshot_of
from proxy.transcript_store import _words_of

pytestmark = pytest.mark.django_db


@pytest.fixture
def cast() -> Cast:
    return pages_kit.cast()


def address(name: str, cast: Cast, *rest: object) -> str:
    return reverse(f"billing:{name}", args=[cast.organization.slug, *rest])


def switch_on(client: Client, cast: Cast, **form: str) -> None:
    answer = client.post(address("transcript-settings", cast), {"is_on": "on", "retention_days": "7"} | form)
    assert answer.status_code == 302


def test_it_is_off_until_an_admin_switches_it_on(cast: Cast) -> None:
    key = key_of(cast.organization)
    assert snapshot_of(key).transcript_days == 0
    assert cast.client("developer").post(address("transcript-settings", cast), {}).status_code == 403
    switch_on(cast.client("admin"), cast)
    assert snapshot_of(ApiKey.objects.get(pk=key.pk)).transcript_days == 7
    entry = AuditEntry.objects.get(action="transcripts.configure")
    assert entry.data == {"is_on": True, "retention_days": 7, "redacts_personal": False}
    cast.client("admin").post(address("transcript-settings", cast), {"retention_days": "7"})
    assert snapshot_of(ApiKey.objects.get(pk=key.pk)).transcript_days == 0


def test_the_gateway_hears_of_a_change() -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_get_triggerdef(oid) FROM pg_trigger WHERE tgname = 'billing_transcript_settings_changed'"
        )
        assert "AFTER INSERT OR DELETE OR UPDATE" in cursor.fetchone()[0]


def test_a_key_is_found_with_its_settings_in_one_query(cast: Cast, django_assert_num_queries) -> None:
    key_of(cast.organization)
    key = ApiKey.objects.select_related("organization__transcript_settings").get(organization=cast.organization)
    with django_assert_num_queries(0):
        assert transcripts.days_of(key.organization) == 0


def test_words_are_redacted_encrypted_and_shown_to_developers(cast: Cast) -> None:
    record = request_of(key_of(cast.organization))
    words_of(record, '{"messages":[{"content":"I am ada@example.com"}]}', "Call +44 20 7946 0958 & <b>wait</b>")
    row = Transcript.objects.get()
    assert "ada" not in row.words_encrypted
    assert "example.com" not in secrets.decrypt(row.words_encrypted)
    client = cast.client("developer")
    detail = client.get(address("request-detail", cast, record.request_id)).content.decode()
    assert "Show what was asked and answered" in detail
    assert "I am" not in detail
    page = client.get(address("transcript", cast, record.request_id))
    assert '"content": "I am [email]"' in unescape(page.content.decode())
    assert "Call [phone] &amp; &lt;b&gt;wait" in page.content.decode()
    assert "no-store" in page["cache-control"]
    entry = AuditEntry.objects.get(action="transcript.read")
    assert (entry.actor, entry.target_id) == (cast.users["developer"], str(record.request_id))
    partial = client.get(address("transcript", cast, record.request_id), headers={"HX-Request": "true"})
    assert "<html" not in partial.content.decode()


def test_an_organization_may_leave_people_in(cast: Cast) -> None:
    switch_on(cast.client("admin"), cast)
    record = request_of(key_of(cast.organization))
    words_of(record, "ada@example.com sk-tup-0123456789abcdefghij")
    words = transcripts.read(record, by=cast.users["owner"])
    assert words is not None
    assert words.request == "ada@example.com [key]"


@pytest.mark.parametrize("who", ["viewer", "billing"])
def test_others_do_not_even_see_whether_there_are_any(who: str, cast: Cast) -> None:
    record = request_of(key_of(cast.organization))
    words_of(record)
    client = cast.client(who)
    assert client.get(address("transcript", cast, record.request_id)).status_code == 403
    assert "Prompt and answer" not in client.get(address("request-detail", cast, record.request_id)).content.decode()
    assert not AuditEntry.objects.filter(action="transcript.read").exists()


def test_words_of_another_organization_are_not_found(cast: Cast) -> None:
    other = pages_kit.cast()
    record = request_of(key_of(other.organization))
    words_of(record)
    assert cast.client("owner").get(address("transcript", cast, record.request_id)).status_code == 404
    transcripts.delete_all(organization=cast.organization, by=None)
    assert Transcript.objects.count() == 1
    mine = request_of(key_of(cast.organization))
    assert cast.client("owner").get(address("transcript", cast, mine.request_id)).status_code == 404


def test_they_go_when_their_time_is_over(cast: Cast) -> None:
    record, later = request_of(key_of(cast.organization)), request_of(key_of(cast.organization, "b"))
    words_of(record, days=1)
    words_of(later, days=30)
    Transcript.objects.filter(pk=record.pk).update(expires_at=timezone.now() - timedelta(seconds=1))
    assert not transcripts.has(record)
    tasks.forget_transcripts()
    assert list(Transcript.objects.values_list("pk", flat=True)) == [later.pk]


def test_fewer_days_apply_to_what_is_there(cast: Cast) -> None:
    record = request_of(key_of(cast.organization))
    words_of(record, days=30)
    switch_on(cast.client("admin"), cast, retention_days="2")
    left = Transcript.objects.get().expires_at - timezone.now()
    assert timedelta(days=1, hours=23) < left <= timedelta(days=2)
    switch_on(cast.client("admin"), cast, retention_days="90")
    assert Transcript.objects.get().expires_at - timezone.now() <= timedelta(days=2)


def test_deleting_all_asks_first(cast: Cast) -> None:
    words_of(request_of(key_of(cast.organization)))
    client = cast.client("admin")
    assert "Delete the prompts and answers of 1 request?" in unescape(
        client.get(address("transcripts-delete", cast)).content.decode()
    )
    assert Transcript.objects.count() == 1
    client.post(address("transcripts-delete", cast))
    assert Transcript.objects.count() == 0
    assert AuditEntry.objects.get(action="transcripts.delete").data == {"count": 1}


def test_keeping_twice_keeps_once_and_long_words_are_cut(cast: Cast) -> None:
    record = request_of(key_of(cast.organization))
    for _ in range(2):
        words_of(record, "word " * 30_000)
    words = transcripts.read(record, by=cast.users["owner"])
    assert words is not None
    assert (len(words.request), words.is_cut) == (transcripts.MAX_CHARACTERS, True)


def test_what_cannot_be_decrypted_any_more_is_not_found(cast: Cast) -> None:
    record = request_of(key_of(cast.organization))
    words_of(record)
    Transcript.objects.update(words_encrypted="nonsense")
    assert cast.client("owner").get(address("transcript", cast, record.request_id)).status_code == 404


def test_the_gateways_bytes_become_words(cast: Cast) -> None:
    record = request_of(key_of(cast.organization))
    taken = gateway_transcripts.Transcript(
        record.request_id, cast.organization.pk, 3, b'{"model":"m"}', b'{"choices":[{"message":{"content":"Hi"}}]}'
    )
    transcripts.keep([_words_of(taken)])
    assert transcripts.read(record, by=cast.users["owner"]) is None
    switch_on(cast.client("admin"), cast, retention_days="2")
    transcripts.keep([_words_of(taken)])
    words = transcripts.read(record, by=cast.users["owner"])
    assert words is not None
    assert (words.request, words.answer) == ('{"model":"m"}', "Hi")
    assert Transcript.objects.get().expires_at < timezone.now() + timedelta(days=2)


def test_settings_stay_within_a_year(cast: Cast) -> None:
    client = cast.client("admin")
    for days in ("0", "366", "x", ""):
        assert client.post(address("transcript-settings", cast), {"retention_days": days}).status_code == 422
    assert not TranscriptSettings.objects.exists()
