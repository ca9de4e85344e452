"""Objects that an upstream keeps, such as responses: only the organization that made one may see it again."""

import re
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import parse_qsl, urlencode

from proxy.gateway import upstream_errors
from proxy.gateway.errors import GatewayError, MethodNotAllowed, UnknownUrl, UnsupportedValue, UpstreamFailed
from proxy.gateway.providers import headers_of, url_of
from proxy.gateway.snapshots import Catalog, Deployment, Key
from proxy.gateway.upstream import AnswerTooLarge, Client, UpstreamError
from proxy.gateway.wire import Request

RESPONSES = "/v1/responses/"
MAX_ID = 200
MAX_OBJECT_BYTES = 64 * 1024 * 1024
_ID = re.compile(r"[A-Za-z0-9_-]{1,200}")
_VERBS = {"": ("GET", "DELETE"), "input_items": ("GET",), "cancel": ("POST",)}
_QUERY = frozenset({"include", "include[]", "include_obfuscation", "limit", "order", "after", "before"})


class Objects(Protocol):
    """Who made which object, and where it is kept."""

    async def record(self, *, organization_id: int, kind: str, upstream_id: str, deployment_id: int) -> None:
        """Remember the owner of a new object. Raises nothing: an object that is not remembered cannot be reached."""

    async def find(self, *, organization_id: int, kind: str, upstream_id: str) -> int | None:
        """The id of the deployment that made the object; None if the organization has no such object."""

    async def owned(self, *, organization_id: int, upstream_ids: list[str]) -> set[str]:
        """Which of these ids, of whatever kind, are objects of the organization."""

    async def forget(self, *, organization_id: int, kind: str, upstream_id: str) -> None:
        """The object is gone."""


class ObjectNotFound(GatewayError):
    status = 404
    type = "invalid_request_error"
    code = "not_found"

    def __init__(self, kind: str, upstream_id: str) -> None:
        super().__init__(f"There is no {kind} with id {upstream_id[:MAX_ID]!r}.", param=f"{kind}_id")


@dataclass(frozen=True, slots=True)
class Addressed:
    """A request for one object: `verb` is empty for the object itself."""

    upstream_id: str
    verb: str

    @property
    def path(self) -> str:
        return f"{RESPONSES}{self.upstream_id}" + (f"/{self.verb}" if self.verb else "")


class Keeper:
    """Serves objects by id, each by the deployment that made it."""

    def __init__(self, *, objects: Objects, client: Client, timeout_s: float) -> None:
        self.objects = objects
        self._client = client
        self._timeout_s = timeout_s

    def address(self, request: Request) -> Addressed:
        """What `request` asks for. Raises `UnknownUrl` or `MethodNotAllowed`."""
        upstream_id, slash, verb = request.path.removeprefix(RESPONSES).partition("/")
        if verb not in _VERBS or (slash and not verb) or not _ID.fullmatch(upstream_id):
            raise UnknownUrl(request.method, request.path)
        if request.method not in _VERBS[verb]:
            raise MethodNotAllowed(request.method, ", ".join(_VERBS[verb]))
        return Addressed(upstream_id, verb)

    async def deployment_of(self, key: Key, upstream_id: str, catalog: Catalog) -> Deployment | None:
        """The deployment that made the response `upstream_id` for the key's organization; None: it has none such."""
        if not _ID.fullmatch(upstream_id):
            return None
        made_by = await self.objects.find(organization_id=key.organization_id, kind="response", upstream_id=upstream_id)
        return None if made_by is None else catalog.deployment(made_by)

    async def serve(self, key: Key, request: Request, addressed: Addressed, catalog: Catalog) -> tuple[int, bytes]:
        """The upstream's answer about the object. Raises `GatewayError`; to all but its owner there is none such."""
        query = _query(request)
        deployment = await self.deployment_of(key, addressed.upstream_id, catalog)
        if deployment is None:
            raise ObjectNotFound("response", addressed.upstream_id)
        url = url_of(deployment, addressed.path, query=query)
        headers = {**headers_of(deployment), "accept": "application/json"}
        try:
            answer = await self._client.request(request.method, url, headers=headers, timeout_s=self._timeout_s)
        except UpstreamError as error:
            raise upstream_errors.from_exception(error) from None
        try:
            body = await answer.read(limit=MAX_OBJECT_BYTES, timeout_s=self._timeout_s)
        except AnswerTooLarge:
            raise UpstreamFailed from None
        except UpstreamError as error:
            raise upstream_errors.from_exception(error) from None
        finally:
            answer.close()
        if answer.status != 200:
            raise upstream_errors.from_status(answer.status, body, answer.headers, deployment, deployment.upstream_name)
        if request.method == "DELETE":
            await self.objects.forget(
                organization_id=key.organization_id, kind="response", upstream_id=addressed.upstream_id
            )
        return answer.status, body


def _query(request: Request) -> str:
    """The parts of the query that pass. Raises `UnsupportedValue`."""
    passed = []
    for name, value in parse_qsl(request.query):
        if name == "stream" and value.lower() == "true":
            raise UnsupportedValue("A finished response cannot be streamed again.", param="stream")
        if name in _QUERY:
            passed.append((name, value))
    return urlencode(passed)
