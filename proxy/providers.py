"""Verbs on providers, models and deployments.

What the environment configures (`sync_from_settings`) and what the price catalogue says (`catalog_loading`) is written
again and again, but never over what staff changed: a field is only written while it still has the value that was
written last, which the row remembers in `loaded`.
"""

from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import connection, models, transaction

from accounts import secrets
from proxy.gateway import workers_ai
from proxy.models import Alias, Deployment, Model, Provider

OPENAI_BASE = "https://api.openai.com/v1"
CLOUDFLARE_BASE = "https://api.cloudflare.com/client/v4/accounts/{account}/ai/v1"
# What the gateway can ask of Workers AI: its OpenAI-compatible endpoints, and what is translated for /ai/run.
CLOUDFLARE_ENDPOINTS = frozenset({"/v1/chat/completions", "/v1/embeddings", "/v1/responses"}) | workers_ai.ENDPOINTS
# Of those, models that answer on a WebSocket alone, or want an image to begin with.
CLOUDFLARE_OTHERS = ("@cf/deepgram/flux", "-img2img", "-inpainting")
OFFERED = frozenset({Model.Status.ACTIVE, Model.Status.DEPRECATED})
_LOCK = "proxy.providers"
_KEY = "api_key"


class NameTaken(ValueError):
    """A model, a snapshot or an alias has this public name already."""

    def __init__(self, name: str) -> None:
        super().__init__(f"the name {name} is taken")
        self.name = name


def create(*, slug: str, kind: str, base_url: str, api_key: str = "", **fields: Any) -> Provider:
    """A new provider. Raises `ValidationError`."""
    provider = Provider(slug=slug, kind=kind, base_url=base_url.rstrip("/"), **fields)
    provider.api_key_encrypted = secrets.encrypt(api_key) if api_key else ""
    provider.full_clean()
    provider.save(force_insert=True)
    return provider


def set_api_key(*, provider: Provider, api_key: str) -> None:
    """Keep another key for `provider`; empty: none."""
    provider.api_key_encrypted = secrets.encrypt(api_key) if api_key else ""
    provider.save(update_fields=["api_key_encrypted"])


def set_report_key(*, provider: Provider, key: str) -> None:
    """Keep another key for the provider's cost reports; empty: none."""
    provider.report_key_encrypted = secrets.encrypt(key) if key else ""
    provider.save(update_fields=["report_key_encrypted"])


def set_enabled(*, rows: models.QuerySet[Any], is_enabled: bool) -> int:
    """Switch providers or deployments on or off; how many were changed."""
    return rows.exclude(is_enabled=is_enabled).update(is_enabled=is_enabled)


def add_alias(*, name: str, model: Model) -> Alias:
    """Another public name for `model`; one that it has already stays. Raises `NameTaken`."""
    alias = Alias.objects.filter(name=name).first()
    if alias is not None and alias.model_id == model.pk:
        return alias
    is_snapshot = Model.objects.exclude(pk=model.pk).filter(snapshots__contains=[name]).exists()
    if alias is not None or is_snapshot or Model.objects.filter(name=name).exists():
        raise NameTaken(name)
    return Alias.objects.create(name=name, model=model)


def deploy(*, model: Model, provider: Provider, upstream_name: str = "", **fields: Any) -> Deployment:
    """Serve `model` at `provider`, where it is called `upstream_name` (default: its own name). May run twice."""
    deployment, _ = Deployment.objects.get_or_create(
        model=model, provider=provider, upstream_name=upstream_name or model.name, defaults=fields
    )
    return deployment


def serve(*, provider: Provider, models: Iterable[Model], priority: int = 0) -> int:
    """Serve `models` at `provider`, each under its own name; how many deployments are new. May run twice."""
    rows = [Deployment(model=model, provider=provider, upstream_name=model.name, priority=priority) for model in models]
    before = provider.deployments.count()
    Deployment.objects.bulk_create(rows, ignore_conflicts=True)
    return provider.deployments.count() - before


def deploy_known(*, provider: Provider, slugs: tuple[str, ...] = ()) -> int:
    """Serve at `provider` every model that the catalogue knows a name for there; how many deployments are new.

    `slugs`: the providers in the catalogue whose names it understands, by default its own slug.
    """
    known = slugs or (provider.slug,)
    present = {(row.model_id, row.upstream_name): row for row in provider.deployments.all()}
    new = []
    for model in Model.objects.filter(upstream_names__has_any_keys=list(known)):
        name = next(model.upstream_names[slug] for slug in known if slug in model.upstream_names)
        deployment = present.get((model.pk, name))
        values = {"is_enabled": _can_serve(provider, model)}
        if deployment is not None:
            write_loaded(deployment, values)
        elif model.status in OFFERED:
            new.append(Deployment(model=model, provider=provider, upstream_name=name, loaded=values, **values))
    Deployment.objects.bulk_create(new)
    return len(new)


def sync_from_settings() -> list[Provider]:
    """Make the providers that the environment configures, and their deployments; those it no longer does are disabled.

    Returns the configured ones. May run any number of times; what staff changed stays.
    """
    with transaction.atomic():
        _lock()
        configured = {values["slug"]: values for values in _configured()}
        synced = [_sync(values) for values in configured.values()]
        for provider in Provider.objects.exclude(loaded={}).exclude(slug__in=configured):
            write_loaded(provider, {"is_enabled": False})
        for provider in synced:
            deploy_known(provider=provider, slugs=_catalogue_slugs(provider))
    return synced


def write_loaded(row: models.Model, values: Mapping[str, Any]) -> bool:
    """Write those `values` to `row` whose fields nobody changed since they were written last; whether any was new.

    A row that was not made this way is somebody's own and stays as it is.
    """
    if row.pk is not None and not row.loaded:
        return False
    changed = []
    for name, value in values.items():
        last = row.loaded.get(name)
        if name in row.loaded and _plain(getattr(row, name)) != last:
            continue
        if name not in row.loaded or last != _plain(value):
            row.loaded[name] = _plain(value)
            setattr(row, name, value)
            changed.append(name)
    if changed and row.pk is not None:
        row.save(update_fields=[*changed, "loaded"])
    return bool(changed)


def _configured() -> Iterable[dict[str, Any]]:
    base, key = settings.UPSTREAM_BASE, settings.UPSTREAM_API_KEY
    if base == OPENAI_BASE:
        if key or settings.IS_SELF_HOSTED:
            yield _values("openai", "OpenAI", Provider.Kind.OPENAI, base, key)
    else:
        host = urlsplit(base).hostname or ""
        kind = Provider.Kind.AZURE if host.endswith(".openai.azure.com") else Provider.Kind.OPENAI_COMPATIBLE
        yield _values("upstream", host, kind, base, key, allow_private=True)
    if settings.CLOUDFLARE_ACCOUNT_ID and settings.CLOUDFLARE_API_KEY:
        url = CLOUDFLARE_BASE.format(account=settings.CLOUDFLARE_ACCOUNT_ID)
        yield _values(
            "cloudflare", "Workers AI", Provider.Kind.CLOUDFLARE, url, settings.CLOUDFLARE_API_KEY, api_version=""
        )


def _values(slug: str, name: str, kind: str, base_url: str, api_key: str, **fields: Any) -> dict[str, Any]:
    return {
        "slug": slug,
        "name": name,
        "kind": kind,
        "base_url": base_url,
        "api_version": settings.UPSTREAM_API_VERSION,
        "is_enabled": True,
        **fields,
        _KEY: api_key,
    }


def _sync(values: dict[str, Any]) -> Provider:
    fields = {name: value for name, value in values.items() if name not in {"slug", _KEY}}
    provider = Provider.objects.filter(slug=values["slug"]).first()
    if provider is None:
        provider = Provider(slug=values["slug"], **fields)
        provider.loaded = {name: _plain(value) for name, value in fields.items()}
        try:
            provider.full_clean(exclude=["loaded"])
        except ValidationError as error:
            raise ValidationError({provider.slug: error.messages}) from None
        provider.save()
    else:
        write_loaded(provider, fields)
    if provider.loaded:
        _sync_key(provider, values[_KEY])
    return provider


def _sync_key(provider: Provider, api_key: str) -> None:
    """The encrypted key differs every time, so its fingerprint is remembered instead."""
    wanted = secrets.fingerprint(api_key) if api_key else ""
    last = provider.loaded.get(_KEY)
    try:
        present = secrets.decrypt(provider.api_key_encrypted) if provider.api_key_encrypted else ""
        current = secrets.fingerprint(present) if present else ""
    except secrets.Undecryptable:
        current = last  # nobody's key any more: the environment's takes its place
        present = None
    is_staffs = last is not None and current != last
    if is_staffs or (present == api_key and last == wanted):
        return
    provider.loaded[_KEY] = wanted
    provider.api_key_encrypted = secrets.encrypt(api_key) if api_key else ""
    provider.save(update_fields=["api_key_encrypted", "loaded"])


def _catalogue_slugs(provider: Provider) -> tuple[str, ...]:
    # Behind UPSTREAM_BASE stands a server of the operator's, or something that passes OpenAI's names on.
    return ("upstream", "openai") if provider.slug == "upstream" else (provider.slug,)


def _can_serve(provider: Provider, model: Model) -> bool:
    if model.status not in OFFERED:
        return False
    if provider.kind != Provider.Kind.CLOUDFLARE:
        return True
    return not model.name.endswith(CLOUDFLARE_OTHERS) and bool(CLOUDFLARE_ENDPOINTS.intersection(model.endpoints))


def _plain(value: Any) -> Any:
    return value.isoformat() if hasattr(value, "isoformat") else value


def _lock() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtext(%s))", [_LOCK])
