"""Calls of SQL functions over one connection, straight through libpq: some three fifths of a cursor's CPU."""

import asyncio
from collections.abc import Callable, Sequence

import psycopg
from psycopg import pq
from psycopg.errors import error_from_result

_FINE = {pq.ExecStatus.COMMAND_OK, pq.ExecStatus.TUPLES_OK}


class PreparedCalls:
    """Prepares each statement once and sends it its parameters as text.

    One call at a time, and nothing else on the connection meanwhile. A call that is cancelled leaves the connection in
    the middle of an answer: close it.
    """

    def __init__(self, connection: psycopg.AsyncConnection[object]) -> None:
        self._pgconn = connection.pgconn
        self._loop = asyncio.get_running_loop()
        self._names: dict[str, bytes] = {}

    async def value(self, sql: str, parameters: Sequence[bytes]) -> bytes | None:
        """The first value of the first row as PostgreSQL writes it, None if there is none.

        `sql` has a `%s` for each parameter. Raises `psycopg.Error`: `OperationalError` when the connection is lost.
        """
        name = self._names.get(sql)
        if name is None:
            name = b"call_%d" % len(self._names)
            numbered = _numbered(sql)
            await self._ask(lambda: self._pgconn.send_prepare(name, numbered))
            self._names[sql] = name
        result = await self._ask(lambda: self._pgconn.send_query_prepared(name, parameters))
        return result.get_value(0, 0) if result.ntuples else None

    async def _ask(self, send: Callable[[], None]) -> pq.abc.PGresult:
        """Send, and wait until libpq has no further result: the last one is the answer."""
        send()
        result: pq.abc.PGresult | None = None
        while True:
            await self._ready(for_more=bool(self._pgconn.flush()))
            self._pgconn.consume_input()
            while not self._pgconn.is_busy():
                following = self._pgconn.get_result()
                if following is not None:
                    result = following
                    continue
                if result is None:
                    raise psycopg.OperationalError("no answer")
                if result.status not in _FINE:
                    raise error_from_result(result, "utf-8")
                return result

    async def _ready(self, *, for_more: bool) -> None:
        """Until something can be read, or with `for_more` written.

        Nobody watches the socket while libpq works on it: libpq closes it when the connection is lost, and the next
        connection of anybody may then have its number.
        """
        ready = self._loop.create_future()
        socket = self._pgconn.socket
        self._loop.add_reader(socket, _wake, ready)
        if for_more:
            self._loop.add_writer(socket, _wake, ready)
        try:
            await ready
        finally:
            self._loop.remove_reader(socket)
            if for_more:
                self._loop.remove_writer(socket)


def _wake(ready: "asyncio.Future[None]") -> None:
    if not ready.done():
        ready.set_result(None)


def _numbered(sql: str) -> bytes:
    """`sql` with $1, $2, … for each %s."""
    first, *rest = sql.split("%s")
    return (first + "".join(f"${number}{part}" for number, part in enumerate(rest, 1))).encode()
