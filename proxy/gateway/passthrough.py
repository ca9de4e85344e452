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
    UnsupportedMediaType,
    UpstreamFailed,
)
from proxy.gateway.forms import Form, Upload
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
MAX_NAMED = 100
IDLE_S = 60.0
TOTAL_S = 900.0
_PATH = re.compile(r"/v1(/[A-Za-z0-9_.~@:%-]+)+/?", re.ASCII)
# Ids as OpenAI makes them; some fields that hold one have names that do not say so, such as `training_file`.
_LOOKS_LIKE_ID = re.compile(r"[a-z]{2,12}[_-][A-Za-z0-9]{16,}", re.ASCII)
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
        if request.method not in _WRITES:
            await self._exchange(request, response, key, deployment, headers, body=None, names=[])
        elif _media_type(request) == "multipart/form-data":
            form = await request.form(limit=MAX_BODY_BYTES, idle_s=IDLE_S, total_s=TOTAL_S)
            try:
                names = _references_of_form(form)
                await self._exchange(request, response, key, deployment, headers, body=Upload(form, {}), names=names)
            finally:
                form.close()
        else:
            body, names = await _read_json(request)
            await self._exchange(request, response, key, deployment, headers, body=body, names=names)

    async def _exchange(
        self,
        request: Request,
        response: Response,
        key: Key,
        deployment: Deployment,
        headers: list[tuple[str, str]],
        *,
        body: bytes | Upload | None,
        names: list[str],
    ) -> None:
        """`names` are the objects that the body names. What goes upstream was written anew from what was checked, so
        that the upstream cannot read another thing in it than we did."""
        _, _, collection, *rest = request.path.rstrip("/").split("/")
        named = [*(unquote(part) for part in rest[:1]), *names]
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
        if isinstance(body, Upload):
            headers |= {"content-type": body.content_type, "content-length": str(body.length)}
        elif isinstance(body, bytes):
            headers |= {"content-type": "application/json", "content-length": str(len(body))}
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


def _media_type(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


async def _read_json(request: Request) -> tuple[bytes, list[str]]:
    """The body as it goes upstream, and the objects that it names. Raises `UnsupportedMediaType`, `InvalidJson`."""
    raw = await request.body(limit=MAX_SHARED_BYTES, timeout_s=IDLE_S)
    if not raw:
        return b"", []
    if _media_type(request) != "application/json":
        raise UnsupportedMediaType("application/json or multipart/form-data")
    try:
        parsed = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise InvalidJson(error.msg) from None
    return orjson.dumps(parsed), _bounded(_references(parsed))


def _references(parsed: Any) -> list[str]:
    """The ids of objects that a body names: the values of every field that is called after an id, and whatever looks
    like one, but for the caller's own `metadata`."""
    found: list[str] = []
    pending: list[tuple[str, Any]] = [("", parsed)]
    while pending:
        name, value = pending.pop()
        if isinstance(value, dict):
            pending += [(inner, item) for inner, item in value.items() if inner != "metadata"]
        elif isinstance(value, list):
            pending += [(name, item) for item in value]
        elif isinstance(value, str) and _is_reference(name, value):
            found.append(value)
    return found


def _references_of_form(form: Form) -> list[str]:
    """The same of the text fields of a form, whose names may say a place: `file_ids[]`, `tool[file_id]`."""
    texts = [(name, value) for name, value in form.parts if isinstance(value, str)]
    return _bounded([value for name, value in texts if _is_reference(name, value)])


def _is_reference(name: str, value: str) -> bool:
    last = name.lower().rstrip("]0123456789[").rpartition("[")[2]
    return last == "id" or last.endswith(("_id", "_ids")) or _LOOKS_LIKE_ID.fullmatch(value) is not None


def _bounded(names: list[str]) -> list[str]:
    if len(names) > MAX_NAMED:
        raise InvalidRequest(f"The body names more than {MAX_NAMED} objects.")
    return names


async def _pieces(request: Request) -> AsyncIterator[bytes]:
    """The request's body as it comes, at most `MAX_BODY_BYTES`."""
    async for piece in request.pieces(idle_s=IDLE_S, total_s=TOTAL_S, limit=MAX_BODY_BYTES):
        yield piece
