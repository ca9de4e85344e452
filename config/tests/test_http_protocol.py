"""What leaves the server is what uvicorn's own protocol would have sent, in fewer pieces."""

import asyncio

import pytest
from uvicorn import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from config.http_protocol import HttpProtocol

PLAIN = (b"content-type", b"text/plain")
GET = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"


def answers(*messages, fails=False):
    async def app(scope, receive, send):
        for message in messages:
            await send(message)
        if fails:
            raise ValueError("of the application's own")

    return app


def start(*headers, status=200):
    return {"type": "http.response.start", "status": status, "headers": list(headers)}


def body(data, *, more=False):
    return {"type": "http.response.body", "body": data, "more_body": more}


def length(number):
    return (b"Content-Length", b"%d" % number)


async def exchange(protocol_class, app, request):
    """All that one connection gets for `request`, and the pieces in which it was written."""
    state, pieces, made = ServerState(), [], []
    state.default_headers = [(b"date", b"today")]
    config = Config(app, access_log=False, lifespan="off", log_config=None)

    class Spied(protocol_class):
        def connection_made(self, transport):
            made.append(self)
            write = transport.write

            class Transport:
                def __getattr__(self, name):
                    return getattr(transport, name)

                def write(self, data):
                    pieces.append(bytes(data))
                    write(data)

            super().connection_made(Transport())

    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Spied(config, state, {}), "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname()[:2])
    writer.write(request)
    writer.write_eof()
    async with asyncio.timeout(20):
        while not made or (not state.tasks and not pieces):  # noqa: ASYNC110 - the very next turns
            await asyncio.sleep(0)
        while state.tasks:  # noqa: ASYNC110 - the very next turns
            await asyncio.sleep(0)
    for one in made:
        one.transport.close()
    async with asyncio.timeout(20):
        got = await reader.read()
    writer.close()
    server.close()
    return got, pieces


CASES = {
    "whole": (answers(start(PLAIN, length(5)), body(b"whole")), GET),
    "empty": (answers(start(length(0)), body(b"")), GET),
    "no content": (answers(start(status=204), body(b"")), GET),
    "a body in pieces": (answers(start(length(4)), body(b"in", more=True), body(b"it")), GET),
    "a stream": (answers(start(PLAIN), body(b"a", more=True), body(b"b", more=True), body(b"")), GET),
    "no length": (answers(start(PLAIN), body(b"all")), GET),
    "HEAD": (answers(start(PLAIN, length(5)), body(b"")), GET.replace(b"GET", b"HEAD")),
    "closing": (answers(start(length(1)), body(b"x")), GET.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n")),
    "HTTP/1.0": (answers(start(length(1)), body(b"x")), GET.replace(b"1.1", b"1.0")),
    "the application closes": (answers(start((b"Connection", b"close"), length(1)), body(b"x")), GET),
    "chunked by hand": (answers(start((b"transfer-encoding", b"chunked"), length(1)), body(b"x")), GET),
    "two requests at once": (answers(start(length(2)), body(b"ok")), GET + GET),
    "too long": (answers(start(length(1)), body(b"much")), GET),
    "too short": (answers(start(length(9)), body(b"short")), GET),
    "a body twice": (answers(start(length(1)), body(b"x"), body(b"y")), GET),
    "a body first": (answers(body(b"x")), GET),
    "two starts": (answers(start(length(1)), start(length(1)), body(b"x")), GET),
    "a split value": (answers(start((b"x-a", b"1\r\nx-b: 2"), length(1)), body(b"x")), GET),
    "a name with a colon": (answers(start((b"x-a: 1", b"2"), length(1)), body(b"x")), GET),
    "a tab": (answers(start((b"x-a", b"1\t2"), length(1)), body(b"x")), GET),
    "a control character": (answers(start((b"x-a", b"\x01"), length(1)), body(b"x")), GET),
    "failing after the answer": (answers(start(length(1)), body(b"x"), fails=True), GET),
    "failing in the middle": (answers(start(length(2)), body(b"x", more=True), fails=True), GET),
}


@pytest.mark.parametrize("name", CASES)
async def test_a_client_gets_what_uvicorn_would_send(name):
    app, request = CASES[name]
    ours, _ = await exchange(HttpProtocol, app, request)
    theirs, _ = await exchange(HttpToolsProtocol, app, request)
    assert ours == theirs


async def test_a_whole_answer_is_written_at_once():
    app, request = CASES["whole"]
    got, pieces = await exchange(HttpProtocol, app, request)
    assert pieces == [got]
    assert len((await exchange(HttpToolsProtocol, app, request))[1]) == 2


async def test_an_answer_that_fails_before_its_body_is_an_error_of_its_own():
    """uvicorn has sent the start by then, and can only break off."""
    got, _ = await exchange(HttpProtocol, answers(start(length(1)), fails=True), GET)
    assert got.startswith(b"HTTP/1.1 500 ")
