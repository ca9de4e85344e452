"""What a page may cost: queries, and bytes of our own script and style. Every page of the table of addresses."""

import re
from pathlib import Path

import pytest
from django.contrib.staticfiles import finders
from django.db import connection
from django.test.utils import CaptureQueriesContext

from config.tests import pages_kit, test_urls
from config.tests.test_urls import TABLE, Row

pytestmark = pytest.mark.django_db

MOST_BYTES = 150_000
MOST_QUERIES = 20
# Whatever we wrote ourselves; libraries are apart.
OWN_FILES = re.compile(r'(?:src|href)="/static/((?!vendor/|drf_spectacular_sidecar/)[^"]+\.(?:js|css))"')
PAGES = [row for row in TABLE if row.method == "get" and row.expected.get("owner") == 200]


@pytest.mark.parametrize("row", PAGES, ids=lambda row: row.name)
def test_a_page_asks_little_and_weighs_little(row: Row) -> None:
    cast = pages_kit.cast()
    for name in ("server", "laptop", "ci"):
        pages_kit.many_requests(pages_kit.key_of(cast.organization, name), 12)
    for _ in range(4):
        pages_kit.image(cast.organization, visibility="public")
    address, client = test_urls._address(row.name, cast), cast.client("owner")
    client.get(address)
    with CaptureQueriesContext(
        connection,
    ) as queries:
        response = client.get(address)
    assert response.status_code == 200
    assert len(queries) <= MOST_QUERIES, "\n".join(query["sql"][:200] for query in queries)
    if response.streaming or not response["content-type"].startswith("text/html"):
        return
    files = set(OWN_FILES.findall(response.content.decode()))
    weight = {name: Path(finders.find(name)).stat().st_size for name in files}
    assert sum(weight.values()) <= MOST_BYTES, weight
