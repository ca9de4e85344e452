"""The client that calls upstreams, over real sockets: what it sends, takes for an answer, and keeps open."""

import asyncio
import datetime
import gzip
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from proxy.gateway import http_client
from proxy.gateway.http_client import HttpClient
from proxy.gateway.http_connection import MAX_WAITING_BYTES
from proxy.gateway.upstream import AnswerTooLarge, ConnectFailed, Disconnected, TimedOut

PATIENCE_S = 20.0
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;a=b\r\nh\r\n1\r\ni\r\n0\r\nx: y\r\n\r\n"
Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Upstream:
    """A server that runs `script` on each connection after it has read a head; `heads` are those."""

    def __init__(self, script: Script | bytes, tls: ssl.SSLContext | None = None) -> None:
        self._script = script if callable(script) else answering(script)
        self._tls = tls
        self._tasks: set[asyncio.Task[Any] | None] = set()
        self.heads: list[bytes] = []
        self.connections = 0

    async def __aenter__(self) -> "Upstream":
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._tls)
        self.port = self._server.sockets[0].getsockname()[1]
        self.url = f"http{'s' if self._tls else ''}://127.0.0.1:{self.port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._tasks.add(asyncio.current_task())
        self.connections += 1
        try:
            while True:
                self.heads.append(await reader.readuntil(b"\r\n\r\n"))
                await self._script(reader, writer)
        except (asyncio.IncompleteReadError, OSError, asyncio.CancelledError):
            pass
        finally:
            writer.transport.abort()


def answering(*answers: bytes, closing: bool = False) -> Script:
    """Each request gets the next answer, the last one again and again; its body is left unread if it has one."""
    left = list(answers)

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(left.pop(0) if len(left) > 1 else left[0])
        await writer.drain()
        if closing:
            raise ConnectionResetError

    return script


@pytest.fixture
async def client() -> AsyncIterator[HttpClient]:
    one = HttpClient()
    yield one
    await one.close()


async def get(client: HttpClient, url: str, method: str = "GET", **more: Any) -> tuple[int, bytes]:
    answer = await client.request(method, url, headers={}, timeout_s=PATIENCE_S, **more)
    try:
        return answer.status, await answer.read(limit=10**9, timeout_s=PATIENCE_S)
    finally:
        answer.close()


async def post(client: HttpClient, url: str, body: Any = b"", timeout_s: float = PATIENCE_S, **headers: str) -> Any:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return await client.post(url, headers=named, body=body, timeout_s=timeout_s)


# ---------------------------------------------------------------- what goes out
async def test_a_request_says_host_target_and_length_and_nothing_of_its_own(client):
    async with Upstream(OK) as upstream:
        answer = await post(client, f"{upstream.url}/v1/a%20b c?x=é&y=%zz", b"{}", authorization="Bearer k")
        answer.close()
    assert upstream.heads[0].decode().split("\r\n") == [
        "POST /v1/a%20b%20c?x=%C3%A9&y=%25zz HTTP/1.1",
        f"host: 127.0.0.1:{upstream.port}",
        "authorization: Bearer k",
        "content-length: 2",
        "",
        "",
    ]


async def test_credentials_in_the_url_become_a_header(client):
    async with Upstream(OK) as upstream:
        await get(client, upstream.url.replace("//", "//user:p%40ss@"))
    assert b"authorization: Basic dXNlcjpwQHNz\r\n" in upstream.heads[0]
    assert b"user" not in upstream.heads[0].partition(b"authorization")[0]


async def test_a_body_in_pieces_has_its_length_or_goes_in_chunks(client):
    bodies: list[bytes] = []

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        bodies.append(await reader.readuntil(b"END\r\n0\r\n\r\n" if bodies else b"END"))
        writer.write(OK)

    async def pieces() -> AsyncIterator[bytes]:
        for piece in (b"one ", b"", b"END"):
            yield piece

    async with Upstream(script) as upstream:
        (await post(client, upstream.url, pieces(), content_length="7")).close()
        (await post(client, upstream.url, pieces())).close()
        assert upstream.connections == 1
    assert bodies == [b"one END", b"4\r\none \r\n3\r\nEND\r\n0\r\n\r\n"]
    assert b"content-length: 7\r\n" in upstream.heads[0]
    assert b"transfer-encoding: chunked\r\n" in upstream.heads[1]


@pytest.mark.parametrize("declared", ["3", "9"])
async def test_a_body_of_another_length_than_declared_ends_the_connection(client, declared):
    async def pieces() -> AsyncIterator[bytes]:
        yield b"seven.."

    async def wait(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(10**6)

    async with Upstream(wait) as upstream:
        with pytest.raises(Disconnected):
            await post(client, upstream.url, pieces(), content_length=declared)


async def test_what_the_body_raises_is_raised(client):
    async def pieces() -> AsyncIterator[bytes]:
        yield b"x"
        raise LookupError("too large")

    async def wait(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(10**6)

    async with Upstream(wait) as upstream:
        with pytest.raises(LookupError):
            await post(client, upstream.url, pieces(), content_length="100")


async def test_a_body_is_read_no_faster_than_the_upstream_takes_it(client):
    asked = 0
    go_on = asyncio.Event()

    async def pieces() -> AsyncIterator[bytes]:
        nonlocal asked
        for _ in range(800):
            asked += 1
            yield bytes(65_536)

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await go_on.wait()
        await reader.readexactly(800 * 65_536)
        writer.write(OK)

    async with Upstream(script) as upstream:
        call = asyncio.create_task(post(client, upstream.url, pieces(), content_length=str(800 * 65_536)))
        before = -1
        while before != asked:  # until nothing moves any more: the kernel's buffers are full
            before = asked
            await asyncio.sleep(0.1)
        assert 0 < asked < 400
        go_on.set()
        assert (await call).status == 200
    assert asked == 800


async def test_an_early_answer_is_heard_while_the_body_is_still_sent(client):
    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * 1000
            await asyncio.sleep(0.001)

    refused = b"HTTP/1.1 413 Too Large\r\ncontent-length: 2\r\n\r\nno"
    async with Upstream(refused) as upstream:
        answer = await post(client, upstream.url, endless())
        assert (answer.status, await answer.read(limit=10, timeout_s=PATIENCE_S)) == (413, b"no")
        answer.close()
        assert await get(client, upstream.url) == (413, b"no")
        assert upstream.connections == 2


# ---------------------------------------------------------------- what comes back
@pytest.mark.parametrize(
    ("raw", "status", "body", "is_kept"),
    [
        (OK, 200, b"hi", True),
        (CHUNKED, 200, b"hi", True),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n" + OK, 200, b"hi", True),
        (b"HTTP/1.1 204 No Content\r\n\r\n", 204, b"", True),
        (b"HTTP/1.1 304 Not Modified\r\ncontent-length: 10\r\n\r\n", 304, b"", True),
        (b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nhi", 200, b"hi", False),
        (b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nhi", 200, b"hi", False),
        (OK + b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil", 200, b"hi", False),
        (OK + b"x", 200, b"hi", False),
    ],
    ids=["length", "chunks", "interim", "204", "304", "close", "1.0", "second answer", "stray byte"],
)  # fmt: skip
async def test_an_answer_ends_where_it_says_and_its_connection_is_used_again(client, raw, status, body, is_kept):
    async with Upstream(answering(raw, OK)) as upstream:
        assert await get(client, upstream.url, "POST", body=b"") == (status, body)
        assert await get(client, upstream.url, "POST", body=b"") == (200, b"hi")
        assert upstream.connections == (1 if is_kept else 2)


async def test_an_answer_to_head_has_no_body(client):
    async with Upstream(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n") as upstream:
        assert await get(client, upstream.url, "HEAD") == (200, b"")


async def test_an_answer_without_a_length_ends_with_its_connection(client):
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n\r\nto the")
        await writer.drain()
        writer.write(b" end")
        writer.close()
        await writer.wait_closed()
        raise ConnectionResetError

    async with Upstream(script) as upstream:
        assert await get(client, upstream.url) == (200, b"to the end")


@pytest.mark.parametrize(
    "raw",
    [
        b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nhi",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n",
    ],
)
async def test_a_cut_answer_gives_what_came_and_then_an_error(client, raw):
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(raw)
        writer.close()
        await writer.wait_closed()
        raise ConnectionResetError

    async with Upstream(script) as upstream:
        answer = await post(client, upstream.url)
        assert await answer.chunk(PATIENCE_S) == b"hi"
        with pytest.raises(Disconnected) as caught:
            await answer.chunk(PATIENCE_S)
        assert not caught.value.is_stale


@pytest.mark.parametrize("is_member_twice", [False, True])
async def test_a_packed_answer_is_unpacked_in_bounded_pieces(client, is_member_twice):
    text = bytes(3_000_000)
    packed = (
        gzip.compress(text[:1_000_000]) + gzip.compress(text[1_000_000:]) if is_member_twice else gzip.compress(text)
    )
    raw = b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: %d\r\n\r\n%s" % (len(packed), packed)
    async with Upstream(raw) as upstream:
        assert await get(client, upstream.url) == (200, text)
        answer = await post(client, upstream.url)
        pieces = []
        while piece := await answer.chunk(PATIENCE_S):
            pieces.append(piece)
        assert b"".join(pieces) == text
        assert max(map(len, pieces)) <= 262_144
        answer = await post(client, upstream.url)
        with pytest.raises(AnswerTooLarge):
            await answer.read(limit=10_000, timeout_s=PATIENCE_S)


CUT = gzip.compress(b"hello")[:-9]


@pytest.mark.parametrize(("coding", "body"), [("br", b"xx"), ("gzip", b"xx"), pytest.param("gzip", CUT, id="gzip-cut")])
async def test_what_cannot_be_unpacked_is_an_error(client, coding, body):
    raw = b"HTTP/1.1 200 OK\r\ncontent-encoding: %s\r\ncontent-length: %d\r\n\r\n%s" % (
        coding.encode(),
        len(body),
        body,
    )
    async with Upstream(raw) as upstream:
        with pytest.raises(Disconnected):
            await get(client, upstream.url)


async def test_reading_stops_while_nobody_reads(client):
    blocked = asyncio.Event()

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        size = 64 * 1024 * 1024
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % size)
        for _ in range(1024):
            writer.write(bytes(65_536))
            if writer.transport.get_write_buffer_size():
                blocked.set()
            await writer.drain()

    async with Upstream(script) as upstream:
        answer = await post(client, upstream.url)
        await asyncio.wait_for(blocked.wait(), PATIENCE_S)
        await asyncio.sleep(0.2)
        assert answer.waiting_bytes < MAX_WAITING_BYTES * 3
        size = 0
        while piece := await answer.chunk(PATIENCE_S):
            size += len(piece)
        assert size == 64 * 1024 * 1024
        assert await get(client, upstream.url) is not None
        assert upstream.connections == 1


# ---------------------------------------------------------------- connections
async def test_a_kept_connection_that_was_closed_is_stale_and_a_new_one_is_not(client):
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(upstream.heads) % 2 == 0:
            raise ConnectionResetError  # the second request of each connection
        writer.write(OK)

    async with Upstream(script) as upstream:
        await get(client, upstream.url)
        with pytest.raises(Disconnected) as caught:
            await post(client, upstream.url)
        assert caught.value.is_stale
        assert await get(client, upstream.url) == (200, b"hi")
        assert upstream.connections == 2


async def test_a_hang_up_on_a_new_connection_is_not_tried_again(client):
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        raise ConnectionResetError

    async with Upstream(script) as upstream:
        for method in ("GET", "POST"):
            with pytest.raises(Disconnected) as caught:
                await get(client, upstream.url, method)
            assert not caught.value.is_stale
        assert upstream.connections == 2


async def test_what_only_reads_is_sent_again_on_a_new_connection(client):
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(upstream.heads) == 2:
            raise ConnectionResetError
        writer.write(OK)

    async with Upstream(script) as upstream:
        assert await get(client, upstream.url) == (200, b"hi")
        assert await get(client, upstream.url) == (200, b"hi")
        assert (upstream.connections, len(upstream.heads)) == (2, 3)


async def test_an_answer_that_is_not_read_to_its_end_takes_its_connection_along(client):
    async with Upstream(answering(b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nhi", OK)) as upstream:
        answer = await post(client, upstream.url)
        answer.close()
        answer.close()
        assert await get(client, upstream.url) == (200, b"hi")
        assert upstream.connections == 2


async def test_bytes_that_nobody_asked_for_end_an_idle_connection(client):
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(OK)
        await writer.drain()
        await told.wait()
        writer.write(OK.replace(b"hi", b"no"))

    told = asyncio.Event()
    async with Upstream(script) as upstream:
        assert await get(client, upstream.url) == (200, b"hi")
        told.set()
        for _ in range(200):
            if not client._open:
                break
            await asyncio.sleep(0.05)
        assert not client._open
        assert await get(client, upstream.url) == (200, b"hi")
        assert upstream.connections == 2


async def test_idle_connections_grow_old(client, monkeypatch):
    monkeypatch.setattr(http_client, "KEEP_ALIVE_S", 0.02)
    async with Upstream(OK) as upstream:
        await get(client, upstream.url)
        for _ in range(200):
            if not client._open:
                break
            await asyncio.sleep(0.02)
        assert not client._open
        assert not client._idle


async def test_only_so_many_are_kept(client, monkeypatch):
    monkeypatch.setattr(http_client, "MAX_IDLE", 2)
    async with Upstream(OK) as upstream:
        await asyncio.gather(*(get(client, upstream.url) for _ in range(5)))
        assert sum(map(len, client._idle.values())) <= 2


async def test_a_caller_that_gives_up_leaves_no_connection(client):
    is_heard = asyncio.Event()

    async def silence(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        is_heard.set()
        await reader.readexactly(1)

    async with Upstream(silence) as upstream:
        call = asyncio.create_task(post(client, upstream.url))
        await asyncio.wait_for(is_heard.wait(), PATIENCE_S)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await asyncio.sleep(0)
        assert not client._open


# ---------------------------------------------------------------- deadlines
async def test_silence_is_a_deadline_and_reading_may_go_on_after_one(client):
    go_on = asyncio.Event()

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(upstream.heads) == 1:
            await reader.readexactly(1)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n")
        await go_on.wait()
        writer.write(b"hi")

    async with Upstream(script) as upstream:
        with pytest.raises(TimedOut):
            await post(client, upstream.url, timeout_s=0.05)
        answer = await post(client, upstream.url)
        with pytest.raises(TimedOut):
            await answer.chunk(0.02)
        with pytest.raises(TimedOut):
            await answer.read(limit=10, timeout_s=0.02)
        go_on.set()
        assert await answer.chunk(PATIENCE_S) == b"hi"
        assert await answer.chunk(PATIENCE_S) == b""


async def test_connecting_has_a_deadline_of_its_own(client, monkeypatch):
    async def never(origin: Any) -> Any:
        await asyncio.sleep(60)

    monkeypatch.setattr(http_client, "CONNECT_TIMEOUT_S", 0.05)
    monkeypatch.setattr(client, "_dial", never)
    with pytest.raises(ConnectFailed):
        await get(client, "http://127.0.0.1:9")
    with pytest.raises(TimedOut):
        await post(client, "http://127.0.0.1:9", timeout_s=0.01)


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/", "http://nobody.invalid/", "https://127.0.0.1:1/"])
async def test_nobody_there_is_a_failed_connection(client, url):
    for _ in range(2):
        with pytest.raises(ConnectFailed):
            await get(client, url)


@pytest.mark.parametrize("url", ["ftp://x/", "http:///v1", "http://x:99999/", "nonsense"])
async def test_a_url_that_is_none_is_an_error(client, url):
    with pytest.raises(Disconnected):
        await get(client, url)


# ---------------------------------------------------------------- TLS
@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A key and a certificate that signs itself for `localhost`, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    plain = serialization.NoEncryption()
    encoded = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    path.write_bytes(encoded + signed.public_bytes(serialization.Encoding.PEM))
    return path


async def test_tls_trusts_the_authorities_it_was_given_and_checks_the_name(certificate, monkeypatch):
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(certificate)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    trusting = HttpClient()
    try:
        async with Upstream(OK, server) as upstream:
            for _ in range(2):
                assert await get(trusting, f"https://localhost:{upstream.port}/") == (200, b"hi")
            assert upstream.connections == 1
            with pytest.raises(ConnectFailed):  # the certificate is for another name
                await get(trusting, upstream.url)
    finally:
        await trusting.close()


async def test_tls_refuses_whom_nobody_vouches_for(certificate, client):
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(certificate)
    async with Upstream(OK, server) as upstream:
        with pytest.raises(ConnectFailed):
            await get(client, f"https://localhost:{upstream.port}/")
        assert not upstream.heads
