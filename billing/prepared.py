"""Calls of SQL functions over one connection, straight through libpq: some three fifths of a cursor's CPU."""

import asyncio
import os
from collections.abc import Callable, Sequence

import psycopg
from psycopg import pq
from psycopg.errors import error_from_result

_FINE = {pq.ExecStatus.COMMAND_OK, pq.ExecStatus.TUPLES_OK}


class PreparedCalls:
    """Prepares each statement once and sends it its parameters as text.

    One call at a time, and nothing else on the connection until `close`. A call that is cancelled leaves the
    connection in the middle of an answer: close both.

    The socket is watched all the time, under a number of our own: to begin and end it with each call costs two system
    calls, and libpq closes its own number when the connection is lost, which the next connection of anybody may have.
    """

    def __init__(self, connection: psycopg.AsyncConnection[object]) -> None:
        self._pgconn = connection.pgconn
        self._loop = asyncio.get_running_loop()
        self._names: dict[str, bytes] = {}
        self._waiter: asyncio.Future[None] | None = None
        self._socket = -1 if connection.closed else os.dup(self._pgconn.socket)
        if self._socket >= 0:
            self._loop.add_reader(self._socket, self._wake)

    def close(self) -> None:
        """Watch no longer. May be repeated."""
        if self._socket >= 0:
            self._loop.remove_reader(self._socket)
            self._loop.remove_writer(self._socket)
            os.close(self._socket)
            self._socket = -1

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
        """Until something can be read, or with `for_more` written."""
        if self._socket < 0:
            raise psycopg.OperationalError("not connected")
        self._waiter = self._loop.create_future()
        if for_more:
            self._loop.add_writer(self._socket, self._wake)
        try:
            await self._waiter
        finally:
            self._waiter = None
            if for_more and self._socket >= 0:
                self._loop.remove_writer(self._socket)

    def _wake(self) -> None:
        if self._waiter is not None:
            if not self._waiter.done():
                self._waiter.set_result(None)
            return
        # Nobody asked: PostgreSQL says something of its own accord, or the connection ends.
        try:
            self._pgconn.consume_input()
        except psycopg.Error:
            self.close()


def _numbered(sql: str) -> bytes:
    """`sql` with $1, $2, … for each %s."""
    first, *rest = sql.split("%s")
    return (first + "".join(f"${number}{part}" for number, part in enumerate(rest, 1))).encode()
