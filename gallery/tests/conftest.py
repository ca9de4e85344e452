import pytest

from accounts.models import Organization
from accounts.tests.factories import OrganizationFactory


@pytest.fixture(autouse=True)
def storage(settings, tmp_path):
    settings.MEDIA_ROOT = tmp_path
    return tmp_path


@pytest.fixture
def organization(db) -> Organization:
    return OrganizationFactory()
