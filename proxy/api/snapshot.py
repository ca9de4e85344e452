"""The catalogue as the management API reads it: the gateway's own snapshot where this process has one."""

from collections.abc import Callable

from accounts.models import Organization
from billing import price_lists
from proxy import catalog
from proxy.gateway.snapshots import Catalog

_source: Callable[[], Catalog] = catalog.load


def read_from(source: Callable[[], Catalog]) -> None:
    """Take the catalogue from `source` from now on. Without it the tables are read each time."""
    global _source  # noqa: PLW0603 - set once, when the server starts
    _source = source


def current(organization: Organization) -> Catalog:
    """The catalogue that the organization's next request is priced by."""
    return _source().at(price_lists.slug_of(organization))
