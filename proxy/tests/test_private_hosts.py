"""A provider's host is called in a private network only where its operator allows that."""

import pytest

from proxy import catalog, providers
from proxy.gateway.http_client import HttpClient
from proxy.gateway.realtime.upstream import AiohttpSockets
from proxy.gateway.snapshots import Deployment
from proxy.gateway.upstream import ConnectFailed
from proxy.models import Model
from proxy.tests.test_http_client import OK, Upstream, get


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "2130706433", "[::ffff:127.0.0.1]"])
async def test_a_private_address_is_not_called(host):
    client = HttpClient(may_be_private=lambda host: False)
    async with Upstream(OK) as upstream:
        with pytest.raises(ConnectFailed, match="private address"):
            await get(client, f"http://{host}:{upstream.port}/")
        assert upstream.connections == 0
    await client.close()


async def test_a_host_that_may_be_private_is_called():
    client = HttpClient(may_be_private=lambda host: host == "127.0.0.1")
    async with Upstream(OK) as upstream:
        assert await get(client, upstream.url) == (200, b"hi")
        with pytest.raises(ConnectFailed):
            await get(client, f"http://localhost:{upstream.port}/")
    await client.close()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]"])
async def test_realtime_calls_no_private_address_either(host):
    sockets = AiohttpSockets(max_frame_bytes=2**20, may_be_private=lambda host: False)
    async with Upstream(OK) as upstream:
        deployment = Deployment(1, "near", "openai-compatible", f"http://{host}:{upstream.port}/v1", "m")
        with pytest.raises(ConnectFailed):
            await sockets.open(deployment, timeout_s=5)
        assert upstream.connections == 0
    await sockets.close()


@pytest.mark.django_db
def test_the_catalogue_knows_the_hosts_that_may_be_private(monkeypatch):
    monkeypatch.setattr(catalog, "close_old_connections", lambda: None)  # the test's own
    for name, is_private in (("near", True), ("far", False)):
        made = providers.create(
            slug=name, kind="openai-compatible", base_url=f"http://{name}.example:8000/v1", allow_private=is_private
        )
        providers.deploy(model=Model.objects.create(name=name), provider=made, upstream_name="m")
    loaded = catalog.load()
    assert "near.example" in loaded.private_hosts
    assert "far.example" not in loaded.private_hosts
    assert loaded.at("any").private_hosts == loaded.private_hosts
