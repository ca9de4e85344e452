"""The embedded Redis in each flavour that this machine has, spoken to by the clients the product uses."""

import shutil
import signal
from collections.abc import Iterator

import pytest
import redis

from sandbox import redis as redis_module
from sandbox.processes import AlreadyRunning
from sandbox.redis import Redis

HERE = ["fakeredis", *(["redis-server"] if shutil.which("redis-server") else [])]


@pytest.fixture(params=HERE)
def server(request, tmp_path) -> Iterator[Redis]:
    one = Redis(tmp_path / "redis", flavour=request.param)
    one.start()
    yield one
    one.destroy()


def test_it_runs_lua(server):
    with redis.Redis.from_url(server.url()) as client:
        script = client.register_script("redis.call('SET', KEYS[1], ARGV[1]); return redis.call('INCRBY', KEYS[1], 2)")
        assert script(keys=["a"], args=["40"]) == 42


def test_it_publishes_to_subscribers(server):
    with redis.Redis.from_url(server.url()) as client, client.pubsub() as listener:
        listener.subscribe("news")
        assert listener.get_message(timeout=5)["type"] == "subscribe"
        client.publish("news", "hello")
        assert listener.get_message(timeout=5)["data"] == b"hello"


def test_a_pipeline_is_a_transaction(server):
    with redis.Redis.from_url(server.url()) as client, client.pipeline(transaction=True) as pipe:
        pipe.set("x", 1)
        pipe.incr("x")
        assert pipe.execute() == [True, 2]


def test_databases_are_apart(server):
    with redis.Redis.from_url(server.url(1)) as one, redis.Redis.from_url(server.url(2)) as two:
        one.set("k", "1")
        assert two.get("k") is None


@pytest.mark.parametrize("protocol", [2, 3])
def test_the_password_is_asked_for(server, protocol):
    with (
        redis.Redis(port=server.port, protocol=protocol, retry=None) as client,
        pytest.raises(redis.AuthenticationError),
    ):
        client.get("x")
    with (
        redis.Redis(port=server.port, password="wrong", protocol=protocol, retry=None) as client,
        pytest.raises(redis.AuthenticationError),
    ):
        client.get("x")
    with redis.Redis.from_url(server.url(), protocol=protocol) as client:
        assert client.ping()


def test_no_command_line_shows_the_password(server):
    password = (server.home / "password").read_text().strip()
    assert not any(password in argument for argument in server.command())
    assert (server.home / "password").stat().st_mode & 0o077 == 0


def test_a_second_start_on_the_same_directory_is_refused(server):
    with pytest.raises(AlreadyRunning):
        Redis(server.home, flavour=server.flavour).start()


def test_it_comes_back_after_kill_9(server):
    port = server.port
    server.restart(signal.SIGKILL)
    with redis.Redis.from_url(server.url()) as client:
        assert client.ping()
    assert server.port == port


def test_a_real_redis_keeps_its_data_over_a_clean_stop(server):
    with redis.Redis.from_url(server.url()) as client:
        client.set("kept", "yes")
    server.stop()
    server.start()
    with redis.Redis.from_url(server.url()) as client:
        assert client.get("kept") == (None if server.flavour == "fakeredis" else b"yes")


def test_an_error_reply_leaves_the_connection_open(server):
    with redis.Redis.from_url(server.url(), single_connection_client=True, retry=None) as client:
        client.set("text", "x")
        number = client.client_id()
        with pytest.raises(redis.ResponseError):
            client.incr("text")
        assert client.client_id() == number


def test_without_a_redis_server_fakeredis_is_taken(monkeypatch):
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.setattr(redis_module, "_server", _none)
    assert redis_module.best_flavour() == "fakeredis"


def _none(flavour: str) -> str:
    raise redis_module.SandboxError(f"{flavour} is not here")
