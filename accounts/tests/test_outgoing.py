"""Calling addresses that customers chose, without being led where they may not lead us."""

import contextlib
import datetime
import http.server
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from accounts import outgoing, signing
from accounts.outgoing import ForbiddenAddress


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700::1111", "1.1.1.1"])
def test_public_addresses(address):
    assert outgoing.is_public(address)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "0.0.0.0", "100.64.0.1", "224.0.0.1",
        "255.255.255.255", "::", "::1", "fe80::1", "fe80::1%eth0", "fc00::1", "ff02::1", "::ffff:127.0.0.1",
        "::ffff:10.0.0.1", "64:ff9b::7f00:1", "64:ff9b:1::1", "2002:7f00:1::", "2001:0:1::1", "::7f00:1", "fec0::1",
        "::ffff:0:127.0.0.1", "64:ff9b::808:808", "5f00::1",
    ],
)  # fmt: skip
def test_addresses_that_lead_inside(address):
    assert not outgoing.is_public(address)


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/", "ftp://example.com", "https://", "https:///x", "example.com", "", "https://u:p@example.com",
        "https://example.com:22/", "https://example.com:99999/", "https://[::1", "javascript:alert(1)",
    ],
)  # fmt: skip
def test_urls_that_are_never_called(url):
    with pytest.raises(ForbiddenAddress):
        outgoing.check_url(url)


@pytest.mark.parametrize(
    "url",
    [
        "https://127.0.0.1/", "https://[::1]/", "https://2130706433/", "https://0x7f.1/", "https://127.1/",
        "https://127.0.0.1./", "https://0177.0.0.1:8443/x", "https://127\u30020\u30020\u30021/", "https://[fe80::1%eth0]/",
        "https://10.1.2.3/", "https://169.254.169.254/latest", "https://[::ffff:10.0.0.1]/", "https://[fd00::1]/",
        "https://localhost/", "https://LocalHost./", "https://a.localhost/", "https://printer.local/",
        "https://metadata.google.internal/", "https://nas.home.arpa/", "https://internal/",
    ],
)  # fmt: skip
def test_what_is_plainly_private_is_refused_before_it_is_kept(url, monkeypatch):
    resolve = socket.getaddrinfo

    def without_a_name_server(*arguments, **named):
        assert named["flags"] & socket.AI_NUMERICHOST
        return resolve(*arguments, **named)

    monkeypatch.setattr(outgoing.socket, "getaddrinfo", without_a_name_server)
    with pytest.raises(ForbiddenAddress, match="not on the public internet"):
        outgoing.check_url(url)


@pytest.mark.parametrize(
    "url",
    ["https://8.8.8.8/", "https://[2606:4700::1111]:8443/", "https://internal.example.com/", "https://mylocal.de/"],
)
def test_what_may_be_public_is_kept(url):
    outgoing.check_url(url)


def _answering(*addresses: str):
    return lambda *arguments, **named: [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (one, 443)) for one in addresses]


def test_one_private_address_among_public_ones_is_enough(monkeypatch):
    monkeypatch.setattr(outgoing.socket, "getaddrinfo", _answering("8.8.8.8", "10.0.0.1"))
    with pytest.raises(ForbiddenAddress, match="not on the public internet"):
        outgoing.post("https://rebinding.example/", body=b"{}", headers={})


def test_a_name_that_does_not_exist(monkeypatch):
    def fails(*arguments, **named):
        raise socket.gaierror

    monkeypatch.setattr(outgoing.socket, "getaddrinfo", fails)
    with pytest.raises(ForbiddenAddress, match="cannot be resolved"):
        outgoing.post("https://nowhere.example/", body=b"{}", headers={})


@given(st.text(max_size=80))
def test_no_text_is_called_by_accident(text):
    try:
        outgoing.check_url(text)
    except ForbiddenAddress:
        return
    assert text.lstrip().lower().startswith("https://")


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers with what it got; /moved redirects."""

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.seen.append((self.headers["host"], dict(self.headers), body))
        if self.path == "/moved":
            self.send_response(302)
            self.send_header("location", "https://elsewhere.example/")
            self.end_headers()
            return
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"x" * 200_000)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server(tmp_path: Path, monkeypatch) -> Iterator[http.server.HTTPServer]:
    """A TLS server called hooks.example, whose certificate we trust for the test."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "hooks.example")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("hooks.example")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = tmp_path / "pem"
    encoding, private = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    pem.write_bytes(
        key.private_bytes(encoding, private, serialization.NoEncryption()) + certificate.public_bytes(encoding)
    )
    ours = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ours.load_cert_chain(pem)
    made = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    made.seen = []
    made.socket = ours.wrap_socket(made.socket, server_side=True)
    thread = threading.Thread(target=made.serve_forever, daemon=True)
    thread.start()
    trusting = ssl.create_default_context(cafile=str(pem))
    monkeypatch.setattr(outgoing.ssl, "create_default_context", lambda: trusting)
    monkeypatch.setattr(outgoing, "PORTS", frozenset({made.server_port}))
    monkeypatch.setattr(outgoing, "resolve", lambda host, port: "127.0.0.1")
    yield made
    made.shutdown()
    made.server_close()


def test_the_checked_address_is_called_by_the_name_that_was_given(server):
    status, answer = outgoing.post(f"https://hooks.example:{server.server_port}/x", body=b"{}", headers={"x-a": "b"})
    assert (status, len(answer)) == (200, outgoing.MAX_ANSWER_BYTES)
    host, headers, body = server.seen[0]
    assert (host, headers["x-a"], body) == (f"hooks.example:{server.server_port}", "b", b"{}")


def test_redirects_are_not_followed(server):
    assert outgoing.post(f"https://hooks.example:{server.server_port}/moved", body=b"{}", headers={})[0] == 302
    assert len(server.seen) == 1


def test_a_certificate_of_another_name_is_refused(server):
    with pytest.raises(httpx.HTTPError):
        outgoing.post(f"https://other.example:{server.server_port}/", body=b"{}", headers={})
    assert server.seen == []


def test_signatures_are_those_of_the_specification():
    """The example of the Standard Webhooks specification's reference libraries."""
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    headers = signing.headers_of("msg_p5jXN8AQM9LWM0D4loKWxJek", b'{"test": 2432232314}', secret, at=1_614_265_330)
    assert headers["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    assert len(signing.new_secret()) > 30


def test_a_server_that_answers_a_byte_at_a_time_is_left(server, monkeypatch):
    """Each byte is in time, all of them are not: without one deadline a customer's server keeps a worker for days."""

    def trickle(self):
        self.rfile.read(int(self.headers["content-length"]))
        with contextlib.suppress(OSError):
            self.wfile.write(b"HTTP/1.1 200 OK\r\n")
            for number in range(400):
                self.wfile.write(f"x-{number}: y\r\n".encode())
                self.wfile.flush()
                time.sleep(0.05)

    monkeypatch.setattr(Handler, "do_POST", trickle)
    monkeypatch.setattr(outgoing, "DEADLINE_S", 0.6)
    started = time.monotonic()
    with pytest.raises(httpx.TimeoutException):
        outgoing.post(f"https://hooks.example:{server.server_port}/", body=b"{}", headers={})
    assert time.monotonic() - started < 3


def test_the_port_is_checked_where_the_connection_is_made(server, monkeypatch):
    """Two parsers of one address need not agree (Open WebUI CVE-2026-45400)."""
    monkeypatch.setattr(outgoing, "PORTS", frozenset({443}))
    monkeypatch.setattr(outgoing, "check_url", lambda url: None)
    with pytest.raises(ForbiddenAddress, match="ports"):
        outgoing.post(f"https://hooks.example:{server.server_port}/", body=b"{}", headers={})
    assert server.seen == []


SPELLINGS = (
    "https://127\u30020\u30020\u30021/", "https://\uff11\uff12\uff17.0.0.1/", "https://0177.0.0.1/",
    "https://127.1/", "https://[::ffff:127.0.0.1]/", "https://[::]/", "https://0/", "https://nothing.internal/",
    "https://example.com@127.0.0.1/", "https://127.0.0.1#@example.com/", "https://127.0.0.1\\@example.com/",
)  # fmt: skip


@pytest.mark.parametrize("url", SPELLINGS)
def test_no_spelling_of_this_machine_is_called(url):
    with pytest.raises((ForbiddenAddress, httpx.HTTPError, httpx.InvalidURL, UnicodeError)):
        outgoing.post(url, body=b"{}", headers={})
