"""Whoever registered another's address and waits for its owner."""

import pytest
from allauth.account.models import EmailAddress
from allauth.mfa.models import Authenticator
from allauth.socialaccount.models import SocialAccount

from accounts import api_sessions, eviction, organizations
from accounts.models import ApiSession, AuditEntry, User

pytestmark = pytest.mark.django_db


def squatter(*, verified: bool) -> User:
    user = User.objects.create_user("victim@example.com", "copper-pine-42")
    EmailAddress.objects.create(user=user, email=user.email, primary=True, verified=verified)
    EmailAddress.objects.create(user=user, email="mallory@example.com", verified=True)
    SocialAccount.objects.create(user=user, provider="github", uid="mallory")
    Authenticator.objects.create(user=user, type=Authenticator.Type.WEBAUTHN, data={})
    api_sessions.begin(user=user, organization=organizations.personal_of(user), way=ApiSession.Way.PASSWORD)
    return user


def test_no_way_into_an_account_outlives_the_proof_of_another():
    user = squatter(verified=False)
    assert eviction.evict(user=user, email="Victim@example.com")
    assert not user.api_sessions.live().exists()
    assert not SocialAccount.objects.filter(user=user).exists()
    assert not Authenticator.objects.filter(user=user).exists()
    assert [address.email for address in EmailAddress.objects.filter(user=user)] == [user.email]
    assert AuditEntry.objects.get(action="user.evict").data == {"sessions": 1, "connections": 1, "addresses": 1}


def test_an_account_whose_address_was_confirmed_stays_as_it_is():
    user = squatter(verified=True)
    assert not eviction.evict(user=user, email=user.email)
    assert user.api_sessions.live().count() == 1
    assert SocialAccount.objects.filter(user=user).exists()
