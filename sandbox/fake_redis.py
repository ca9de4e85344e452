"""The last resort where neither `redis-server` nor a C compiler is found: fakeredis' TCP server, with a password.

`python -m sandbox.fake_redis PORT PASSWORD_FILE`. It keeps nothing on disk: what it loses may be lost.
"""

import hmac
import sys
from pathlib import Path
from typing import Any

import redis
from fakeredis import TcpFakeServer
from fakeredis._clients._tcp_server import TCPFakeRequestHandler
from fakeredis._helpers import SimpleError


class _Handler(TCPFakeRequestHandler):
    """fakeredis accepts a password but does not ask for one, and hangs up after an error reply; this mends both."""

    server: "PasswordServer"

    def setup(self) -> None:
        super().setup()
        fake_socket: Any = self.current_client.get_socket()
        process = fake_socket._process_command
        authenticated = False

        def refuse(message: str) -> None:
            fake_socket.put_response(fake_socket._decode_result(SimpleError(message)))

        def guarded(fields: list[bytes]) -> None:
            nonlocal authenticated
            name = fields[0].lower() if fields else b""
            words = [field.lower() for field in fields]
            if name == b"auth" or (name == b"hello" and b"auth" in words):
                offered = fields[-1] if name == b"auth" else fields[min(words.index(b"auth") + 2, len(fields) - 1)]
                authenticated = hmac.compare_digest(offered, self.server.password)
                if not authenticated:
                    return refuse("WRONGPASS invalid username-password pair or user is disabled.")
                if name == b"auth":
                    return fake_socket.put_response(b"OK")
                at = words.index(b"auth")
                fields = fields[:at] + fields[at + 3 :]
            elif not authenticated and name not in {b"hello", b"quit"}:
                return refuse("NOAUTH Authentication required.")
            return process(fields)

        read = self.current_client.read_response

        def read_or_error() -> Any:
            try:
                return read()
            except redis.ResponseError as error:  # a reply like any other
                return error

        fake_socket._process_command = guarded
        setattr(self.current_client, "read_response", read_or_error)  # noqa: B010 - a method, to the type checker


class PasswordServer(TcpFakeServer):
    """fakeredis on 127.0.0.1, speaking as Redis 6.2, to clients that know the password."""

    request_queue_size = 128

    def __init__(self, port: int, password: str) -> None:
        super().__init__(("127.0.0.1", port), server_version=(6, 2))
        self.password = password.encode()
        self.daemon_threads = True
        self.RequestHandlerClass = _Handler


if __name__ == "__main__":
    PasswordServer(int(sys.argv[1]), Path(sys.argv[2]).read_text().strip()).serve_forever()
