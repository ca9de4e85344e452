"""The demo: a person, an organization with credit, a key that works, and models that the sandbox provider serves.

Everything is found before it is made: it may run any number of times.
"""

import json
import os
from pathlib import Path

from allauth.account.models import EmailAddress
from django.conf import settings
from django.db import models, transaction
from django.utils import timezone

from accounts import key_format, keys, organizations
from accounts.models import ApiKey, Organization, User
from billing import ledger
from billing.money import NANOS_PER_CREDIT
from proxy import outlook, providers
from proxy.models import Deployment, Model, Provider
from sandbox import past, showpieces, uptime
from sandbox.processes import write_private

EMAIL = "demo@example.com"
CREDITS = 2_500
SLUG = "sandbox"
# What the simulated provider answers. A model that a real provider serves is left to it: nobody pays for canned text.
ENDPOINTS = (
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/embeddings",
    "/v1/responses",
    "/v1/moderations",
    "/v1/images/generations",
    "/v1/audio/transcriptions",
    "/v1/audio/speech",
    "/v1/realtime",
)


def load(*, password: str, provider_url: str, provider_key: str, secrets_path: Path, has_past: bool = False) -> None:
    """Make or mend the demo; the API key, shown once by design, is kept in `secrets_path`.

    With `has_past`, an organization that is made now begins with some weeks of simulated use.
    """
    with transaction.atomic():
        user = _user(password)
        organization = user.organizations.order_by("pk").first()
        is_new = organization is None
        organization = organization or _organization(user)
        _serve(_provider(provider_url, provider_key))
        kept = json.loads(secrets_path.read_text())
        if not _works(kept.get("demo_api_key", "")):
            issued = keys.issue(organization=organization, name="Demo", by=user)
            if is_new and has_past:
                _past(organization, issued.key, user)
            kept["demo_api_key"] = issued.secret
            write_private(secrets_path, json.dumps(kept, indent=1))


def _user(password: str) -> User:
    user = User.objects.filter(email=EMAIL).first()
    if user is None:
        user = User.objects.create_superuser(EMAIL, password, name="Demo")
    elif not user.check_password(password):
        user.set_password(password)
        user.save(update_fields=["password"])
    EmailAddress.objects.get_or_create(user=user, email=EMAIL, defaults={"verified": True, "primary": True})
    return user


def _organization(user: User) -> Organization:
    organization = organizations.create(name="Demo", slug="demo", owner=user)
    ledger.grant(
        organization=organization,
        amount=CREDITS * NANOS_PER_CREDIT,
        reason="Demo credit",
        idempotency_key=f"demo:{organization.public_id}",
    )
    return organization


def _past(organization: Organization, key: ApiKey, user: User) -> None:
    now = timezone.now()
    requests = past.make(organization=organization, key=key, now=now)
    showpieces.hang(requests)
    showpieces.tell(requests, organization=organization, author=user)
    outlook.keep_services()
    uptime.make(provider=SLUG, start=past.span(now)[0], now=now)


def _provider(url: str, key: str) -> Provider:
    provider = Provider.objects.filter(slug=SLUG).first()
    if provider is None:
        return providers.create(
            slug=SLUG, name="Sandbox", kind=Provider.Kind.SANDBOX, base_url=url, api_key=key, allow_private=True
        )
    provider.base_url = url
    provider.save(update_fields=["base_url"])
    providers.set_api_key(provider=provider, api_key=key)
    return provider


def _serve(provider: Provider) -> None:
    real = Deployment.objects.filter(is_enabled=True, provider__is_enabled=True).exclude(provider=provider)
    real = real.filter(model=models.OuterRef("pk"))
    offered = Model.objects.listed().annotate(is_real=models.Exists(real))
    candidates = [model for model in offered if set(model.endpoints).intersection(ENDPOINTS)]
    providers.serve(provider=provider, models=[model for model in candidates if not model.is_real], priority=100)
    for is_real in (True, False):
        rows = provider.deployments.filter(model__in=[model.pk for model in candidates if model.is_real is is_real])
        providers.set_enabled(rows=rows, is_enabled=not is_real)


def _works(secret: str) -> bool:
    if not secret:
        return False
    return ApiKey.objects.live().filter(digest=key_format.digest_of(secret, settings.API_KEY_PEPPER)).exists()


def from_environment() -> None:
    """Load the demo as the supervisor asked for it."""
    load(
        password=os.environ["DEMO_PASSWORD"],
        provider_url=os.environ["SANDBOX_URL"],
        provider_key=os.environ["SANDBOX_KEY"],
        secrets_path=Path(os.environ["DATA_DIR"]) / "secrets.json",
        has_past=os.environ.get("DEMO_PAST") != "0",
    )
