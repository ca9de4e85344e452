"""A TCP proxy before PostgreSQL that can be shut."""

import contextlib
import select
import socket
import threading


class Door:
    """Relays connections to `host`:`port`. `shut` cuts them and lets none in until `is_open` again.

    With `swallows_answers` the next answer of the server is lost, and its connection with it.
    """

    def __init__(self, host: str, port: int) -> None:
        self.is_open = True
        self.swallows_answers = False
        self._target = (host, port)
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        self._is_closed = False
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def shut(self) -> None:
        self.is_open = False

    def close(self) -> None:
        self._is_closed = True
        self.is_open = False
        for thread in self._threads:
            thread.join(5)
        self._server.close()

    def _accept(self) -> None:
        while not self._is_closed:
            if not select.select([self._server], [], [], 0.02)[0]:
                continue
            client, _ = self._server.accept()
            thread = threading.Thread(target=self._relay, args=(client,))
            self._threads.append(thread)
            thread.start()

    def _relay(self, client: socket.socket) -> None:
        with client:
            if not self.is_open:
                return
            with socket.create_connection(self._target) as server, contextlib.suppress(OSError):
                while self.is_open:
                    for source in select.select([client, server], [], [], 0.02)[0]:
                        data = source.recv(65536)
                        if not data:
                            return
                        if source is server and self.swallows_answers:
                            self.swallows_answers = False
                            return
                        (server if source is client else client).sendall(data)
