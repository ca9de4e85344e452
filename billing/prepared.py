"""Calls of SQL functions over one connection, straight through libpq: a third of the CPU of a cursor's."""

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
        self._answer: asyncio.Future[pq.abc.PGresult] | None = None
        self._last: pq.abc.PGresult | None = None

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
        answer = self._answer = self._loop.create_future()
        send()
        socket = self._pgconn.socket
        if self._pgconn.flush():
            self._loop.add_writer(socket, self._write, socket)
        self._loop.add_reader(socket, self._read)
        try:
            result: pq.abc.PGresult = await answer
        finally:
            self._answer = self._last = None
            self._loop.remove_reader(socket)
            self._loop.remove_writer(socket)
        if result.status not in _FINE:
            raise error_from_result(result, "utf-8")
        return result

    def _write(self, socket: int) -> None:
        try:
            if not self._pgconn.flush():
                self._loop.remove_writer(socket)
        except psycopg.Error as error:
            self._end(error)

    def _read(self) -> None:
        """Take in what has come; the answer is whole when libpq has no further result."""
        try:
            self._pgconn.consume_input()
            while not self._pgconn.is_busy():
                result = self._pgconn.get_result()
                if result is None:
                    if self._last is None:
                        raise psycopg.OperationalError("no answer")
                    return self._end(self._last)
                self._last = result
        except psycopg.Error as error:
            return self._end(error)

    def _end(self, outcome: "pq.abc.PGresult | psycopg.Error") -> None:
        answer = self._answer
        if answer is None or answer.done():
            return
        if isinstance(outcome, psycopg.Error):
            answer.set_exception(outcome)
        else:
            answer.set_result(outcome)


def _numbered(sql: str) -> bytes:
    """`sql` with $1, $2, … for each %s."""
    first, *rest = sql.split("%s")
    return (first + "".join(f"${number}{part}" for number, part in enumerate(rest, 1))).encode()
