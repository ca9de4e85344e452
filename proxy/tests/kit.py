"""The gateway with everything outside it scripted: for tests of its branches, without sockets or a database."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import UUID

import orjson

from billing.pricing import Prices, Rate
from billing.teller import Capture, Claim, Granted, HoldRequest, Refused, Settled, TellerUnavailable
from proxy.gateway.admission import Cashier
from proxy.gateway.app import Gateway
from proxy.gateway.artifacts import ImageStore
from proxy.gateway.attempts import Attempts, Deadlines
from proxy.gateway.concurrency import Concurrency
from proxy.gateway.limits import Limiter
from proxy.gateway.options import Options
from proxy.gateway.owned import Keeper
from proxy.gateway.passthrough import Passthrough
from proxy.gateway.realtime.secrets import Bound, Wanted
from proxy.gateway.relay import Relay
from proxy.gateway.routing import Router
from proxy.gateway.snapshots import Catalog, Deployment, Key, Route
from proxy.gateway.traces import Traces
from proxy.gateway.transcripts import Transcripts
from proxy.gateway.upstream import Disconnected, TimedOut, UpstreamError

SECRET = "sk-tup-test"
DIGEST = "digest-of-it"
KEY = Key(id=7, organization_id=3, organization_slug="acme", account_id=5)
# $1 per million input tokens, $2 per million output tokens: 1,000 and 2,000 nano-dollars a token.
RATE = Rate("m", 11, Prices(input=1_000_000_000, output=2_000_000_000))
COST_RATE = Rate("m", 12, Prices(input=500_000_000, output=1_000_000_000))
DEPLOYMENT = Deployment(
    id=1,
    provider="up",
    kind="openai-compatible",
    base_url="http://upstream/v1",
    upstream_name="real-model",
    api_key="sk-upstream-secret",
    cost_rate=COST_RATE,
)
ROUTE = Route(model="m", owned_by="us", created=1, rate=RATE, deployments=(DEPLOYMENT,))


class TestTeller:
    """A teller in memory: one account, the same promises, no database."""

    __test__ = False

    def __init__(self, balance: int = 10**12) -> None:
        self.balance = balance
        self.holds: dict[UUID, int] = {}
        self.captures: list[Capture] = []
        self.checkpoints: list[tuple[UUID, int]] = []
        self.claims: dict[str, Claim] = {}
        self.digests: dict[str, bytes] = {}
        self.refusal: Refused | None = None
        self.is_away = False

    async def hold(self, request: HoldRequest) -> Granted | Refused:
        if self.is_away:
            raise TellerUnavailable
        if self.refusal:
            return self.refusal
        if request.amount > self.available:
            return Refused("insufficient_credit", self.available, None)
        self.holds[request.request_id] = request.amount
        return Granted(self.available, 1)

    async def extend(self, request_id: UUID, amount: int, tokens: int = 0) -> Granted | Refused:
        if amount > self.available:
            return Refused("insufficient_credit", self.available, None)
        self.holds[request_id] += amount
        return Granted(self.available, 1)

    def checkpoint(self, request_id: UUID, progress: int) -> None:
        self.checkpoints.append((request_id, progress))

    async def capture(self, capture: Capture) -> Settled:
        await asyncio.sleep(0)
        assert all(capture.request_id != one.request_id for one in self.captures), "charged twice"
        self.holds.pop(capture.request_id, None)
        self.captures.append(capture)
        self.balance -= capture.cost
        for name, claim in self.claims.items():
            if claim.request_id == capture.request_id:
                state = "done" if capture.response else "lost"
                self.claims[name] = replace(claim, state=state, response=capture.response)
        return Settled(self.available, 2, True)

    async def claim(self, *, organization_id: int, key: str, body_sha: bytes, request_id: UUID) -> Claim:
        name = f"{organization_id}:{key}"
        if name not in self.claims:
            self.claims[name] = Claim("running", request_id, None)
            self.digests[name] = body_sha
            return Claim("new", request_id, None)
        return self.claims[name] if self.digests[name] == body_sha else Claim("mismatch", request_id, None)

    async def release(self, *, organization_id: int, key: str, request_id: UUID) -> None:
        self.claims.pop(f"{organization_id}:{key}", None)

    @property
    def available(self) -> int:
        return self.balance - sum(self.holds.values())


class TestKeyring:
    __test__ = False

    def __init__(self, key: Key = KEY) -> None:
        self.key = key
        self.revoked = False

    async def find(self, secret: str) -> Key | None:
        return self.key if secret == SECRET else None

    async def find_digest(self, digest: str) -> Key | None:
        return self.key if digest == DIGEST else None

    def is_revoked(self, key_id: int) -> bool:
        return self.revoked

    def is_ended(self, key: Key, since: float) -> bool:
        return self.revoked


class TestObjects:
    """Owners in memory."""

    __test__ = False

    def __init__(self) -> None:
        self.owners: dict[tuple[int, str, str], int] = {}

    async def record(self, *, organization_id: int, kind: str, upstream_id: str, deployment_id: int) -> None:
        self.owners[organization_id, kind, upstream_id] = deployment_id

    async def find(self, *, organization_id: int, kind: str, upstream_id: str) -> int | None:
        return self.owners.get((organization_id, kind, upstream_id))

    async def owned(self, *, organization_id: int, upstream_ids: list[str]) -> set[str]:
        mine = {upstream_id for owner, _, upstream_id in self.owners if owner == organization_id}
        return mine.intersection(upstream_ids)

    async def forget(self, *, organization_id: int, kind: str, upstream_id: str) -> None:
        self.owners.pop((organization_id, kind, upstream_id), None)


class TestSecrets:
    """Ephemeral keys in memory."""

    __test__ = False

    def __init__(self) -> None:
        self.bound: dict[str, Bound] = {}

    async def mint(self, key_id: int, wanted: Wanted, *, end_user: str) -> str:
        secret = f"ek_{len(self.bound)}"
        self.bound[secret] = Bound(DIGEST, wanted.model, wanted.session, end_user)
        return secret

    async def find(self, secret: str) -> Bound | None:
        return self.bound.get(secret)


@dataclass
class Script:
    """One answer of the upstream. A piece is bytes, an error to raise, or a callable run in its place."""

    pieces: list[Any] = field(default_factory=list)
    status: int = 200
    content_type: str = "application/json"
    error: UpstreamError | None = None


class ScriptedAnswer:
    def __init__(self, script: Script) -> None:
        self.status = script.status
        self.headers = {"content-type": script.content_type, "x-request-id": "up-1"}
        self._pieces = list(script.pieces)
        self.is_closed = False

    async def chunk(self, timeout_s: float) -> bytes:
        if not self._pieces:
            return b""
        piece = self._pieces.pop(0)
        if callable(piece):
            piece = piece()
        if isinstance(piece, Exception):
            raise piece
        return piece

    async def read(self, *, limit: int, timeout_s: float) -> bytes:
        body = b""
        while piece := await self.chunk(timeout_s):
            body += piece
        return body

    def close(self) -> None:
        self.is_closed = True


class ScriptedClient:
    """An upstream client that gives one script after the other, the last one for ever."""

    def __init__(self, *scripts: Script) -> None:
        self._scripts = list(scripts)
        self.requests: list[tuple[str, dict[str, str], Any]] = []
        self.answers: list[ScriptedAnswer] = []

    async def post(self, url: str, *, headers: dict[str, str], body: bytes, timeout_s: float) -> ScriptedAnswer:
        is_json = headers.get("content-type", "application/json") == "application/json"
        self.requests.append((url, headers, orjson.loads(body) if is_json else body))
        script = self._scripts.pop(0) if len(self._scripts) > 1 else self._scripts[0]
        if script.error:
            raise script.error
        self.answers.append(ScriptedAnswer(script))
        return self.answers[-1]

    async def request(
        self, method: str, url: str, *, headers: dict[str, str], timeout_s: float, body: Any = None
    ) -> ScriptedAnswer:
        whole = body if isinstance(body, bytes) else b"".join([piece async for piece in body]) if body else b"{}"
        return await self.post(f"{method} {url}", headers=headers, body=whole or b"{}", timeout_s=timeout_s)

    async def close(self) -> None: ...


@dataclass
class Answered:
    """What a client got."""

    status: int
    headers: dict[str, str]
    body: bytes
    is_complete: bool

    def json(self) -> Any:
        return orjson.loads(self.body)

    @property
    def error(self) -> dict[str, Any]:
        return self.json()["error"]

    @property
    def events(self) -> list[bytes]:
        return [line[6:] for line in self.body.split(b"\n") if line.startswith(b"data: ")]


class Kit:
    """A gateway, the teller behind it, and a client before it."""

    def __init__(
        self,
        *scripts: Script,
        key: Key = KEY,
        routes: tuple[Route, ...] = (ROUTE,),
        balance: int = 10**12,
        deadlines: Deadlines | None = None,
        passthrough_paths: tuple[str, ...] = (),
        images: ImageStore | None = None,
        transcripts: Transcripts | None = None,
        traces: Traces | None = None,
        **options: Any,
    ) -> None:
        deadlines = deadlines or Deadlines()
        self.teller = TestTeller(balance)
        self.keyring = TestKeyring(key)
        self.client = ScriptedClient(*(scripts or (Script(),)))
        self.objects = TestObjects()
        cashier = Cashier(self.teller, site_url="https://example.test")
        attempts = Attempts(client=self.client, router=Router(), deadlines=deadlines, traces=traces)
        self.gateway = Gateway(
            keyring=self.keyring,
            catalog=lambda: Catalog({route.model: route for route in routes}),
            limiter=Limiter(None),
            concurrency=Concurrency(None),
            cashier=cashier,
            relay=Relay(
                attempts=attempts,
                cashier=cashier,
                keyring=self.keyring,
                deadlines=deadlines,
                objects=self.objects,
                images=images,
                traces=traces,
                transcripts=transcripts,
            ),
            client_secrets=TestSecrets(),
            keeper=Keeper(objects=self.objects, client=self.client, timeout_s=deadlines.first_byte_s),
            passthrough=Passthrough(
                client=self.client, objects=self.objects, timeout_s=deadlines.first_byte_s, paths=passthrough_paths
            ),
            options=Options(site_url="https://example.test", deadlines=deadlines, **options),
        )

    async def call(
        self,
        path: str = "/v1/chat/completions",
        body: Any = None,
        *,
        method: str = "POST",
        headers: dict[str, str] | None = None,
        secret: str | None = SECRET,
        leaves_after: int | None = None,
        on_send: Callable[[dict[str, Any]], None] | None = None,
    ) -> Answered:
        """One request; the client hangs up after `leaves_after` body messages if that is given."""
        raw = body if isinstance(body, bytes) else b"" if body is None else orjson.dumps(body)
        sent = {"content-type": "application/json"} | (headers or {})
        if secret is not None:
            sent.setdefault("authorization", f"Bearer {secret}")
        scope = {
            "type": "http",
            "method": method,
            "path": path.partition("?")[0],
            "query_string": path.partition("?")[2].encode(),
            "client": ("203.0.113.9", 1),
            "headers": [(name.encode(), value.encode()) for name, value in sent.items()],
        }
        left = asyncio.Event()
        is_read = False
        answered = Answered(0, {}, b"", False)
        bodies = 0

        async def receive() -> dict[str, Any]:
            nonlocal is_read
            if not is_read:
                is_read = True
                return {"type": "http.request", "body": raw, "more_body": False}
            await left.wait()
            return {"type": "http.disconnect"}

        async def send(message: dict[str, Any]) -> None:
            nonlocal bodies
            if message["type"] == "http.response.start":
                answered.status = message["status"]
                answered.headers = {name.decode(): value.decode() for name, value in message["headers"]}
            else:
                answered.body += message["body"]
                answered.is_complete = not message["more_body"]
                bodies += 1
                if leaves_after is not None and bodies >= leaves_after:
                    left.set()
                    await asyncio.sleep(0)
                    await asyncio.sleep(0)
            if on_send:
                on_send(message)

        await self.gateway(scope, receive, send)
        return answered


def chat(**fields: Any) -> dict[str, Any]:
    """A chat request."""
    return {"model": "m", "messages": [{"role": "user", "content": "hello world"}]} | fields


def answer(usage: Any = ..., text: str = "hello world") -> bytes:
    """A whole chat answer; without `usage` if it is left out."""
    fields: dict[str, Any] = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "model": "real-model",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
    }
    if usage is not ...:
        fields["usage"] = usage
    return orjson.dumps(fields)


def usage(prompt: Any = 10, completion: Any = 5, **more: Any) -> dict[str, Any]:
    """10 + 5 tokens: 10 x 1,000 + 5 x 2,000 = 20,000 nano-dollars; upstream half of that."""
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": 15} | more


def delta(text: str, finish: str | None = None, **more: Any) -> bytes:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": finish}
    return b"data: " + orjson.dumps({"choices": [choice]} | more) + b"\n\n"


def usage_chunk(value: Any = None) -> bytes:
    return b"data: " + orjson.dumps({"choices": [], "usage": usage() if value is None else value}) + b"\n\n"


DONE = b"data: [DONE]\n\n"


def stream(*pieces: Any) -> Script:
    return Script(list(pieces), content_type="text/event-stream")


CUT = Disconnected("cut")
SILENCE = TimedOut()
