"""Paths that the gateway does not know: refused, but forwarded as they stand where that can hurt nobody.

With a key of the organization's own everything passes: the account behind it is its own. With the shared key only the
paths that staff listed pass, and an object that is named there must be the organization's.
"""

import asyncio
import re
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import unquote

import orjson

from proxy.gateway import own, upstream_errors
from proxy.gateway.errors import (
    InvalidJson,
    InvalidRequest,
    UnknownUrl,
    UpstreamFailed,
)
from proxy.gateway.owned import ObjectNotFound, Objects
from proxy.gateway.providers import headers_of, url_of
from proxy.gateway.snapshots import Catalog, Deployment, Key
from proxy.gateway.upstream import Answer, AnswerTooLarge, Client, UpstreamError
from proxy.gateway.wire import Request, Response

SCOPE = "passthrough"
_WRITES = frozenset({"POST", "PUT", "PATCH"})
METHODS = _WRITES | {"GET", "DELETE"}
# Answers about shared objects are read whole, to learn ids and to leave out what is others'.
MAX_SHARED_BYTES = 16 * 1024 * 1024
MAX_BODY_BYTES = 512 * 1024 * 1024
IDLE_S = 60.0
_PATH = re.compile(r"/v1(/[A-Za-z0-9_.~@:%-]+)+/?", re.ASCII)
_PASSED = ("content-type", "content-disposition", "openai-processing-ms", "retry-after")


class Passthrough:
    """Forwards unknown paths. `paths` are the prefixes that pass with the shared key."""

    def __init__(self, *, client: Client, objects: Objects, timeout_s: float, paths: tuple[str, ...] = ()) -> None:
        self._client = client
        self._objects = objects
        self._timeout_s = timeout_s
        self._paths = paths

    async def serve(
        self, request: Request, response: Response, key: Key, deployment: Deployment, headers: list[tuple[str, str]]
    ) -> None:
        """Answer a path by the deployment that `target` found. Raises `GatewayError`."""
        if deployment.is_own_key:
            answer = await self._send(request, deployment, _pieces(request))
            await self._relay(answer, response, headers)
            return
        await self._serve_shared(request, response, key, deployment, headers)

    def target(self, request: Request, key: Key, own_key: str, catalog: Catalog) -> Deployment:
        """Where an unknown path passes to. Raises `UnknownUrl` where it does not pass."""
        path = request.path
        if request.method not in METHODS or not _PATH.fullmatch(path) or ".." in unquote(path):
            raise UnknownUrl(request.method, path)
        known = {
            deployment.provider: deployment for route in catalog.routes.values() for deployment in route.deployments
        }
        candidates = sorted(known.values(), key=lambda deployment: (deployment.kind != "openai", deployment.provider))
        for deployment in candidates:
            if own.has_key((deployment,), key, own_key):
                return own.with_own_key(deployment, key, own_key)
        if candidates and any(path == prefix or path.startswith(f"{prefix}/") for prefix in self._paths):
            return candidates[0]
        raise UnknownUrl(request.method, path)

    async def _serve_shared(
        self, request: Request, response: Response, key: Key, deployment: Deployment, headers: list[tuple[str, str]]
    ) -> None:
        """With the key that all share: named objects must be the organization's, and new ones become so."""
        _, _, collection, *rest = request.path.rstrip("/").split("/")
        named = [unquote(part) for part in rest[:1]]
        body: Any = None
        is_json = request.headers.get("content-type", "").startswith("application/json")
        if request.method in _WRITES and is_json:
            body = await request.body(limit=MAX_SHARED_BYTES, timeout_s=IDLE_S)
            named += _references(body)
        elif request.method in _WRITES:
            body = _pieces(request)
        owned = await self._objects.owned(organization_id=key.organization_id, upstream_ids=named)
        for upstream_id in named:
            if upstream_id not in owned:
                raise ObjectNotFound(collection.rstrip("s"), upstream_id)
        answer = await self._send(request, deployment, body)
        if named and rest and not answer.headers.get("content-type", "").startswith("application/json"):
            await self._relay(answer, response, headers)
            return
        told = await self._read(answer, deployment)
        if request.method == "POST" and isinstance(told.get("id"), str):
            await self._objects.record(
                organization_id=key.organization_id,
                kind=collection,
                upstream_id=told["id"],
                deployment_id=deployment.id,
            )
        if request.method == "DELETE" and named:
            await self._objects.forget(organization_id=key.organization_id, kind=collection, upstream_id=named[0])
        if isinstance(told.get("data"), list) and not rest:
            await self._filter(told, key)
        headers.append(("content-type", "application/json"))
        await response.whole(200, headers, orjson.dumps(told))

    async def _filter(self, told: dict[str, Any], key: Key) -> None:
        """Leave out of a list what is others'."""
        items = [item for item in told["data"] if isinstance(item, dict) and isinstance(item.get("id"), str)]
        owned = await self._objects.owned(
            organization_id=key.organization_id, upstream_ids=[item["id"] for item in items]
        )
        told["data"] = [item for item in items if item["id"] in owned]
        for name, place in (("first_id", 0), ("last_id", -1)):
            if name in told:
                told[name] = told["data"][place]["id"] if told["data"] else None

    async def _send(self, request: Request, deployment: Deployment, body: Any) -> Answer:
        url = url_of(deployment, request.path, query=request.query)
        headers = headers_of(deployment)
        for name in ("content-type", "accept", "openai-beta"):
            if name in request.headers:
                headers[name] = request.headers[name]
        if isinstance(body, bytes):
            headers["content-length"] = str(len(body))
        elif body is not None and request.headers.get("content-length", "").isdigit():
            headers["content-length"] = request.headers["content-length"]
        elif request.method in {"GET", "DELETE"}:
            body = None
        try:
            return await self._client.request(
                request.method, url, headers=headers, timeout_s=self._timeout_s, body=body
            )
        except UpstreamError as error:
            raise upstream_errors.from_exception(error) from None

    async def _read(self, answer: Answer, deployment: Deployment) -> dict[str, Any]:
        try:
            body = await answer.read(limit=MAX_SHARED_BYTES, timeout_s=self._timeout_s)
        except AnswerTooLarge:
            raise UpstreamFailed from None
        except UpstreamError as error:
            raise upstream_errors.from_exception(error) from None
        finally:
            answer.close()
        if answer.status >= 300:
            name = deployment.upstream_name
            raise upstream_errors.from_status(answer.status, body, answer.headers, deployment, name)
        try:
            told = orjson.loads(body) if body else {}
        except orjson.JSONDecodeError:
            raise UpstreamFailed from None
        if not isinstance(told, dict):
            raise UpstreamFailed
        return told

    async def _relay(self, answer: Answer, response: Response, headers: list[tuple[str, str]]) -> None:
        """The answer as it stands, piece by piece; never a page."""
        try:
            if answer.headers.get("content-type", "").startswith("text/html"):
                raise UpstreamFailed
            headers += [(name, answer.headers[name]) for name in _PASSED if name in answer.headers]
            await response.start(answer.status, headers)
            while piece := await answer.chunk(self._timeout_s):
                async with asyncio.timeout(IDLE_S):
                    await response.write(piece, more=True)
            await response.write(b"", more=False)
        except (UpstreamError, TimeoutError) as error:
            if not response.is_started and isinstance(error, UpstreamError):
                raise upstream_errors.from_exception(error) from None
        finally:
            answer.close()


def _references(body: bytes) -> list[str]:
    """The ids of objects that a body names: the values of every field that ends with `_id`, `_ids` or is `id`."""
    found: list[str] = []
    try:
        pending: list[Any] = [orjson.loads(body)] if body else []
    except orjson.JSONDecodeError as error:
        raise InvalidJson(error.msg) from None
    while pending:
        value = pending.pop()
        if isinstance(value, list):
            pending.extend(value)
            continue
        if not isinstance(value, dict):
            continue
        for name, inner in value.items():
            if name == "id" or name.endswith(("_id", "_ids")):
                given = inner if isinstance(inner, list) else [inner]
                found += [item for item in given if isinstance(item, str)]
            if isinstance(inner, dict | list):
                pending.append(inner)
    if len(found) > 100:
        raise InvalidRequest("The body names more than 100 objects.")
    return found


async def _pieces(request: Request) -> AsyncIterator[bytes]:
    """The request's body as it comes, at most `MAX_BODY_BYTES`."""
    async for piece in request.pieces(idle_s=IDLE_S, total_s=900.0, limit=MAX_BODY_BYTES):
        yield piece
