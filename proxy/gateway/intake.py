"""From a request whose key is known to an exchange: which model, at what price, for whom, within which ceilings."""

from dataclasses import dataclass
from urllib.parse import parse_qsl
from uuid import UUID

from billing.pricing import Rate
from proxy.gateway import ceilings, image_tool, keys, labels, own, responses
from proxy.gateway.artifacts import VISIBILITIES
from proxy.gateway.endpoints import ENDPOINTS
from proxy.gateway.errors import InvalidRequest, ModelNotFound, UnsupportedValue
from proxy.gateway.exchange import Exchange
from proxy.gateway.jobs import Endpoint, Job
from proxy.gateway.options import Options
from proxy.gateway.snapshots import Catalog, Key, Route
from proxy.gateway.wire import Request, Response

MAX_API_VERSION = 40


@dataclass(frozen=True, slots=True)
class Arrival:
    """A request whose key is known, and what its answer begins with."""

    request: Request
    response: Response
    key: Key
    request_id: UUID
    headers: list[tuple[str, str]]
    started_at: float


def open_exchange(arrival: Arrival, endpoint: Endpoint, job: Job, *, catalog: Catalog, options: Options) -> Exchange:
    """The request with its route, its price and whose it is. Raises the error to answer with; nothing is held yet."""
    request, key = arrival.request, arrival.key
    route = catalog.find(key.aliases.get(job.model, job.model), key.price_list)
    if route is None or not route.deployments:
        raise ModelNotFound(job.model)
    keys.authorize_model(key, job.model, route.model)
    rate = rate_of(job, endpoint, route)
    own_key = own.read(request, is_offered=options.is_self_hosted)
    if job.details.get("background") and not own.has_key(route.deployments, key, own_key):
        raise UnsupportedValue(responses.NO_BACKGROUND, param="background")
    if options.requires_own_key and not own.has_key(route.deployments, key, own_key):
        raise own.UpstreamKeyRequired(f"{options.site_url}/o/{key.organization_slug}/upstream-keys/")
    exchange = Exchange(
        request_id=arrival.request_id,
        key=key,
        endpoint=endpoint,
        job=job,
        route=route,
        rate=rate,
        started_at=arrival.started_at,
        end_user=(key.end_user or labels.read(request, labels.END_USER) or job.end_user)[: labels.MAX_LABEL],
        run_id=labels.read(request, labels.RUN),
        org_label=labels.read(request, labels.ORGANIZATION),
        own_key=own_key,
        visibility=_visibility(request, key),
        max_nanos=ceilings.read(request, ceilings.OF_CALL),
        run_max_nanos=ceilings.read(request, ceilings.OF_RUN),
        api_version=_api_version(request),
        traceparent=request.headers.get("traceparent", ""),
    )
    if job.tool is not None:
        image_tool.accompany(exchange, catalog, ENDPOINTS[image_tool.PATH])
    return exchange


def rate_of(job: Job, endpoint: Endpoint, route: Route) -> Rate:
    """The price at which `route` serves `job` on `endpoint`. Raises the error to answer with where it does not."""
    if route.endpoints and endpoint.served_as not in route.endpoints:
        served = ", ".join(sorted(route.endpoints))
        raise InvalidRequest(
            f"The model {job.model!r} is not served on {endpoint.path}, but on {served}.",
            param="model",
            code="unsupported_model",
        )
    if route.rate is None:
        raise InvalidRequest(
            f"The model {job.model!r} has no price yet and cannot be used.", param="model", code="model_not_priced"
        )
    if not route.rate.has_tier(job.tier):
        raise UnsupportedValue(
            f"The model {job.model!r} has no price for the service tier {job.tier!r}.", param="service_tier"
        )
    if endpoint.bound is not None:
        endpoint.bound(job, route, route.rate)
    return route.rate


def _visibility(request: Request, key: Key) -> str:
    """Of the images that the request makes. Raises `UnsupportedValue`."""
    asked = request.headers.get("x-gallery-visibility")
    if asked is None or not key.image_visibility:
        return key.image_visibility
    if asked not in VISIBILITIES:
        raise UnsupportedValue(
            f"'x-gallery-visibility' must be one of {', '.join(sorted(VISIBILITIES))}.", param="x-gallery-visibility"
        )
    return asked


def _api_version(request: Request) -> str:
    """The `api-version` of the client's own query, for providers that have one."""
    if "api-version=" not in request.query:
        return ""
    return dict(parse_qsl(request.query)).get("api-version", "")[:MAX_API_VERSION]
