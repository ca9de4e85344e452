"""The catalogue as the management API reads it: the gateway's own snapshot where this process has one."""

from collections.abc import Callable

from proxy import catalog
from proxy.gateway.snapshots import Catalog

_source: Callable[[], Catalog] = catalog.load


def read_from(source: Callable[[], Catalog]) -> None:
    """Take the catalogue from `source` from now on. Without it the tables are read each time."""
    global _source  # noqa: PLW0603 - set once, when the server starts
    _source = source


def current() -> Catalog:
    """The catalogue that the next request is priced by."""
    return _source()
