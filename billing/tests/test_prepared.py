import asyncio
import os
import socket

import psycopg
import pytest
import pytest_asyncio

from billing.prepared import PreparedCalls

pytestmark = pytest.mark.django_db(transaction=True)


@pytest_asyncio.fixture
async def connection(dsn):
    made = await psycopg.AsyncConnection.connect(dsn, autocommit=True)
    yield made
    await made.close()


async def test_the_first_value_comes_as_it_is_written(connection):
    calls = PreparedCalls(connection)
    for number in (b"1", b"2"):
        assert await calls.value("SELECT json_build_array(%s::int, %s::text)", (number, b"\xc3\xa4")) == (
            b'[%s, "\xc3\xa4"]' % number
        )
    assert await calls.value("SELECT 1 WHERE %s::bool", (b"no",)) is None
    assert await calls.value("SELECT NULL::text", ()) is None


async def test_what_is_refused_leaves_the_connection_in_order(connection):
    calls = PreparedCalls(connection)
    with pytest.raises(psycopg.errors.DivisionByZero):
        await calls.value("SELECT 1 / %s::int", (b"0",))
    with pytest.raises(psycopg.errors.InvalidTextRepresentation):
        await calls.value("SELECT 1 / %s::int", (b"x",))
    with pytest.raises(psycopg.errors.SyntaxError):
        await calls.value("SELEKT", ())
    assert await calls.value("SELECT 1 / %s::int", (b"1",)) == b"1"
    calls.close()
    assert await (await connection.execute("SELECT 2")).fetchone() == (2,)


async def test_more_than_a_socket_takes_at_once_arrives_whole(connection):
    big = b"x" * 5_000_000
    assert await PreparedCalls(connection).value("SELECT %s::text", (big,)) == big


async def test_a_connection_that_ends_in_the_middle_is_an_operational_error(connection):
    call = asyncio.ensure_future(PreparedCalls(connection).value("SELECT pg_sleep(0.5)", ()))
    await asyncio.sleep(0.05)
    with socket.socket(fileno=os.dup(connection.pgconn.socket)) as twin:
        twin.shutdown(socket.SHUT_RDWR)
    with pytest.raises(psycopg.OperationalError):
        await call
    assert connection.closed
    with pytest.raises(psycopg.OperationalError):
        await PreparedCalls(connection).value("SELECT 1", ())


async def test_nobody_watches_a_socket_that_libpq_may_close(connection):
    """The next connection of anybody may have the number of a closed one: to end watching it would end theirs."""
    calls = PreparedCalls(connection)
    number, loop, watched = connection.pgconn.socket, asyncio.get_running_loop(), []

    class Libpq:
        def __getattr__(self, name):
            if name == "consume_input":
                watched.append(loop.remove_reader(number) or loop.remove_writer(number))
            return getattr(connection.pgconn, name)

    calls._pgconn = Libpq()
    await calls.value("SELECT %s::text", (b"x" * 5_000_000,))
    with pytest.raises(psycopg.OperationalError):
        await calls.value("SELECT pg_terminate_backend(pg_backend_pid())", ())
    with pytest.raises(psycopg.OperationalError):
        await calls.value("SELECT 1", ())
    assert len(watched) > 3
    assert not any(watched)


async def test_what_is_not_asked_for_is_read_and_an_end_ends_the_watch(connection, dsn):
    """A socket that can be read and that nobody reads would keep the event loop busy for nothing."""
    calls = PreparedCalls(connection)
    pid = (await calls.value("SELECT pg_backend_pid()", ())).decode()
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as other:
        await calls.value("LISTEN something", ())
        await other.execute("NOTIFY something")
        assert await calls.value("SELECT 1", ()) == b"1"
        await other.execute("SELECT pg_terminate_backend(%s::int)", (pid,))
    async with asyncio.timeout(10):
        while calls._socket >= 0:  # noqa: ASYNC110 - ended by the loop
            await asyncio.sleep(0.01)
    assert connection.closed
    with pytest.raises(psycopg.OperationalError):
        await calls.value("SELECT 1", ())
    calls.close()
