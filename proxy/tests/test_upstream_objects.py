"""Owners of upstream objects on real PostgreSQL."""

from datetime import timedelta

import pytest
from asgiref.sync import async_to_sync
from django.utils import timezone

from proxy import upstream_objects
from proxy.models import Deployment, UpstreamObject
from proxy.tests import api_kit

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def deployment() -> Deployment:
    return api_kit.model().deployments.get()


@pytest.fixture
def owners(deployment: Deployment) -> tuple[int, int, int]:
    return api_kit.customer().organization.pk, api_kit.customer().organization.pk, deployment.pk


def test_an_object_is_its_organizations_alone(owners):
    one, other, deployment = owners
    objects = upstream_objects.Objects()
    record, find, forget = (async_to_sync(verb) for verb in (objects.record, objects.find, objects.forget))
    for _ in range(2):
        record(organization_id=one, kind="response", upstream_id="resp_1", deployment_id=deployment)
    record(organization_id=one, kind="response", upstream_id="x" * 201, deployment_id=deployment)
    record(organization_id=10**9, kind="response", upstream_id="resp_1", deployment_id=deployment)
    assert find(organization_id=one, kind="response", upstream_id="resp_1") == deployment
    assert find(organization_id=other, kind="response", upstream_id="resp_1") is None
    assert find(organization_id=one, kind="file", upstream_id="resp_1") is None
    forget(organization_id=other, kind="response", upstream_id="resp_1")
    assert UpstreamObject.objects.count() == 1
    forget(organization_id=one, kind="response", upstream_id="resp_1")
    assert UpstreamObject.objects.count() == 0


def test_what_no_provider_keeps_is_forgotten(owners):
    one, _, deployment = owners
    for name, days in (("old", 61), ("young", 59)):
        UpstreamObject.objects.create(
            organization_id=one,
            kind="response",
            upstream_id=name,
            deployment_id=deployment,
            created_at=timezone.now() - timedelta(days=days),
        )
    assert upstream_objects.forget_old() == 1
    assert UpstreamObject.objects.get().upstream_id == "young"
