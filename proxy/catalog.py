"""The snapshot of models, prices and deployments that the gateway routes by."""

from collections.abc import Iterable
from dataclasses import replace
from urllib.parse import urlsplit

import structlog
from django.db import close_old_connections

from accounts import secrets
from billing import rates
from billing.pricing import Rate
from proxy.gateway.snapshots import Catalog, Deployment, Route
from proxy.models import Alias, Model, Provider
from proxy.models import Deployment as DeploymentRow

log = structlog.get_logger(__name__)


def load() -> Catalog:
    """Read the whole catalogue: a handful of queries. Runs in a thread; raises `DatabaseError`."""
    close_old_connections()
    try:
        return _load()
    finally:
        close_old_connections()


def _load() -> Catalog:
    sell, costs = rates.current_rates(), rates.current_costs()
    deployments: dict[int, list[Deployment]] = {}
    api_keys: dict[int, str | None] = {}
    rows = DeploymentRow.objects.select_related("provider").filter(is_enabled=True, provider__is_enabled=True)
    rows = list(rows.order_by("priority", "pk"))
    for row in rows:
        provider = row.provider
        if provider.pk not in api_keys:
            api_keys[provider.pk] = _api_key(provider)
        api_key = api_keys[provider.pk]
        if api_key is None:
            continue
        deployments.setdefault(row.model_id, []).append(
            Deployment(
                id=row.pk,
                provider=provider.slug,
                kind=provider.kind,
                base_url=provider.base_url.rstrip("/"),
                upstream_name=row.upstream_name,
                api_key=api_key,
                api_version=provider.api_version,
                weight=row.weight,
                priority=row.priority,
                cost_rate=costs.get((provider.slug, row.upstream_name)),
                timeout_s=row.timeout_s,
                max_concurrency=row.max_concurrency or 0,
            )
        )
    routes: dict[str, Route] = {}
    by_id: dict[int, Route] = {}
    for model in Model.objects.filter(pk__in=deployments).order_by("name"):
        route = Route(
            model=model.name,
            owned_by=model.owned_by,
            created=int(model.created_at.timestamp()),
            rate=sell.get(model.name),
            deployments=tuple(deployments[model.pk]),
            context_window=model.context_window,
            max_output_tokens=model.max_output_tokens,
            endpoints=frozenset(model.endpoints),
            is_listed=model.is_listed,
        )
        routes[model.name] = by_id[model.pk] = route
        for snapshot in model.snapshots:
            routes.setdefault(snapshot, route)
    for alias in Alias.objects.filter(model_id__in=by_id):
        routes.setdefault(alias.name, by_id[alias.model_id])
    for name, successor in Model.objects.exclude(successor="").values_list("name", "successor"):
        if successor in routes:
            routes.setdefault(name, routes[successor])
    price_lists = {name: _repriced(routes, prices) for name, prices in rates.current_list_rates().items()}
    return Catalog(routes, price_lists, _private_hosts(row.provider for row in rows))


def _private_hosts(providers: Iterable[Provider]) -> frozenset[str]:
    """The hosts that may have private addresses."""
    return frozenset(urlsplit(one.base_url).hostname or "" for one in providers if one.allow_private)


def _repriced(routes: dict[str, Route], prices: dict[str, Rate]) -> dict[str, Route]:
    """The same routes at a list's own prices."""
    return {name: replace(route, rate=prices.get(route.model)) for name, route in routes.items()}


def _api_key(provider: Provider) -> str | None:
    """The provider's key, "" if it needs none; None if it cannot be read: then the others must still be served."""
    if not provider.api_key_encrypted:
        return ""
    try:
        return secrets.decrypt(provider.api_key_encrypted)
    except secrets.Undecryptable:
        log.error("provider_key_undecryptable", provider=provider.slug)
        return None
