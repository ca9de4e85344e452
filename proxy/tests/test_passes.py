from datetime import timedelta

import pytest
from asgiref.sync import async_to_sync
from django.conf import settings
from django.utils import timezone

from accounts import keys
from accounts.models import Membership, Role
from accounts.tests.factories import MembershipFactory
from proxy import passes, playground
from proxy.keyring import Keyring
from proxy.models import ClientSecret

pytestmark = pytest.mark.django_db


@pytest.fixture
def member() -> Membership:
    return MembershipFactory()


def minted(member: Membership, **key_fields) -> str:
    if key_fields:
        keys.issue(organization=member.organization, name=playground.KEY_NAME, **key_fields)
    key = playground.key_of(member.organization, by=member.user)
    secret, _ = passes.mint(key=key, member=member.user)
    return secret


def opened(secret: str):
    """The key as the gateway sees it."""
    found = passes.find(secret)
    if found is None:
        return None
    key = async_to_sync(Keyring(pepper=settings.API_KEY_PEPPER).find_digest)(found.key_digest)
    return None if key is None else found.narrowed(key)


@pytest.mark.django_db(transaction=True)
def test_a_pass_is_the_playgrounds_key_for_its_holder(member):
    key = opened(minted(member))
    assert key.organization_id == member.organization_id
    assert (key.end_user, key.scopes) == (member.user.email, passes.SCOPES)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("of_key", "of_pass"),
    [(["chat", "management", "passthrough"], {"chat"}), (["management"], {"nothing"}), (["images"], {"images"})],
)
def test_a_pass_opens_nothing_that_the_key_does_not(member, of_key, of_pass):
    assert opened(minted(member, scopes=of_key)).scopes == of_pass


def test_only_its_digest_is_stored(member):
    secret = minted(member)
    assert secret not in str(ClientSecret.objects.values().get())


def test_it_ends_by_itself(member):
    secret = minted(member)
    assert passes.find(secret)
    ClientSecret.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    assert passes.find(secret) is None


@pytest.mark.parametrize("role", [Role.VIEWER, Role.BILLING])
def test_it_ends_when_its_holder_may_no_longer(member, role):
    secret = minted(member)
    member.role = role
    member.save()
    assert passes.find(secret) is None


def test_it_ends_when_its_holder_leaves_or_is_shut_out(member):
    secret = minted(member)
    member.user.is_active = False
    member.user.save()
    assert passes.find(secret) is None
    member.user.is_active = True
    member.user.save()
    assert passes.find(secret)
    member.delete()
    assert passes.find(secret) is None


@pytest.mark.django_db(transaction=True)
def test_it_ends_with_the_key(member):
    secret = minted(member)
    keys.revoke(key=playground.key_of(member.organization, by=member.user), by=None)
    assert opened(secret) is None


def test_strangers_passes_are_none():
    assert passes.find("play_" + "x" * 40) is None
