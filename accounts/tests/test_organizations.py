import pytest
from django.core.exceptions import PermissionDenied
from django.http import Http404
from django.urls import reverse

from accounts import access, organizations
from accounts.models import Membership, Organization, Role, User
from accounts.tests.factories import MembershipFactory, OrganizationFactory, UserFactory

pytestmark = pytest.mark.django_db


def test_a_slug_is_made_from_the_name_and_stays_unique():
    first = organizations.create(name="Ada & Co")
    second = organizations.create(name="Ada & Co")
    assert first.slug == "ada-co"
    assert second.slug.startswith("ada-co-")
    with pytest.raises(organizations.SlugTaken):
        organizations.create(name="Other", slug="ada-co")


def test_a_name_without_letters_still_gets_a_slug():
    assert organizations.create(name="···").slug == "organization"


def test_signing_up_makes_a_personal_organization(client):
    answer = client.post(
        reverse("account_signup"),
        {"email": "Ada@Example.com", "password1": "copper-pine-42", "password2": "copper-pine-42"},
    )
    assert answer.status_code == 302
    user = User.objects.get()
    assert user.email == "ada@example.com"
    membership = Membership.objects.get(user=user)
    assert (membership.role, membership.organization.is_personal) == (Role.OWNER, True)


def test_a_user_made_by_hand_gets_a_personal_organization_once():
    user = UserFactory()
    assert organizations.personal_of(user) == organizations.personal_of(user)
    assert Organization.objects.count() == 1


def test_an_organization_keeps_its_one_owner():
    owner = UserFactory()
    organization = organizations.create(name="Ada", owner=owner)
    membership = organization.memberships.get()
    for change in (
        lambda: organizations.change_role(membership=membership, role=Role.ADMIN, by=owner),
        lambda: organizations.remove_member(membership=membership, by=owner),
        lambda: organizations.add_member(organization=organization, user=UserFactory(), role=Role.OWNER, by=owner),
    ):
        with pytest.raises(organizations.LastOwner):
            change()


def test_members_come_change_and_go():
    organization = organizations.create(name="Ada", owner=UserFactory())
    user = UserFactory()
    membership = organizations.add_member(organization=organization, user=user, role=Role.VIEWER, by=None)
    assert organizations.add_member(organization=organization, user=user, role=Role.ADMIN, by=None) == membership
    organizations.change_role(membership=membership, role=Role.DEVELOPER, by=None)
    membership.refresh_from_db()
    assert membership.role == Role.DEVELOPER
    organizations.remove_member(membership=membership, by=None)
    assert not organization.memberships.filter(user=user).exists()


@pytest.mark.parametrize(
    ("role", "needed", "error"),
    [
        (Role.VIEWER, Role.VIEWER, None),
        (Role.VIEWER, Role.DEVELOPER, PermissionDenied),
        (Role.BILLING, Role.DEVELOPER, PermissionDenied),
        (Role.DEVELOPER, Role.DEVELOPER, None),
        (Role.ADMIN, Role.DEVELOPER, None),
        (Role.ADMIN, Role.OWNER, PermissionDenied),
        (None, Role.VIEWER, Http404),
    ],
)
def test_an_organization_opens_to_its_roles(rf, role, needed, error):
    organization = OrganizationFactory()
    request = rf.get("/")
    request.user = MembershipFactory(organization=organization, role=role).user if role else UserFactory()
    if error is None:
        assert access.organization_for(request, organization.slug, needed) == organization
        assert request.membership.role == role
    else:
        with pytest.raises(error):
            access.organization_for(request, organization.slug, needed)


def test_only_those_who_may_manage_keys_can():
    may = {role for role in Role if access.can(Membership(role=role), "keys.manage")}
    assert may == {Role.DEVELOPER, Role.ADMIN, Role.OWNER}
