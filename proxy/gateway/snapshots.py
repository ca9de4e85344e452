"""What the hot path knows of keys, models and providers: immutable copies, replaced whole when the tables change."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Network, IPv6Network

from billing.pricing import Rate


@dataclass(frozen=True, slots=True)
class Key:
    """A live API key and the organization that it belongs to. Empty sets allow everything; times are Unix seconds."""

    id: int
    organization_id: int
    organization_slug: str
    account_id: int
    scopes: frozenset[str] = frozenset()
    allowed_models: frozenset[str] = frozenset()
    allowed_endpoints: frozenset[str] = frozenset()
    allowed_networks: tuple[IPv4Network | IPv6Network, ...] = ()
    rpm: int | None = None
    tpm: int | None = None
    max_concurrent: int = 0
    organization_rpm: int = 0
    organization_tpm: int = 0
    organization_max_concurrent: int = 0
    expires_at: float | None = None
    revoked_at: float | None = None
    is_active: bool = True
    aliases: Mapping[str, str] = field(default_factory=dict)  # its own names for models
    fallback_model: str = ""
    price_list: str = ""  # whose prices count; empty: the standard ones
    image_visibility: str = ""  # of its images in the gallery; empty: they are not kept
    transcript_days: int = 0  # for which requests and answers are kept in words; 0: they are not
    upstream_keys: Mapping[str, str] = field(default_factory=dict, repr=False)  # its own, by provider
    end_user: str = ""  # whom a pass of the playground was made for


@dataclass(frozen=True, slots=True)
class Deployment:
    """A model at a provider. `base_url` ends before the endpoint's path, as in `https://api.openai.com/v1`."""

    id: int
    provider: str
    kind: str
    base_url: str
    upstream_name: str
    api_key: str = field(default="", repr=False)
    api_version: str = ""
    weight: int = 1
    priority: int = 0
    cost_rate: Rate | None = None
    is_own_key: bool = False
    max_concurrency: int = 0
    timeout_s: float | None = None

    @property
    def label(self) -> str:
        """`provider/upstream name`, as `x-upstream` and the request log show it."""
        return f"{self.provider}/{self.upstream_name}"


@dataclass(frozen=True, slots=True)
class Route:
    """A public model name, its selling price and the deployments that serve it."""

    model: str
    owned_by: str
    created: int
    rate: Rate | None
    deployments: tuple[Deployment, ...]
    context_window: int | None = None
    max_output_tokens: int | None = None
    endpoints: frozenset[str] = frozenset()
    is_listed: bool = True


@dataclass(frozen=True, slots=True)
class Catalog:
    """Every route by public name; aliases and dated snapshots of a model are names of the same route.

    `private_hosts` are those of the providers that may lie in a private network.
    """

    routes: Mapping[str, Route]
    price_lists: Mapping[str, Mapping[str, Route]] = field(default_factory=dict)
    private_hosts: frozenset[str] = frozenset()

    def find(self, name: str, price_list: str = "") -> Route | None:
        """The route of a public name, at the prices of a list; what the list lacks is not sold by it."""
        return (self.price_lists.get(price_list, {}) if price_list else self.routes).get(name)

    def at(self, price_list: str) -> "Catalog":
        """The same models at the prices of a list."""
        return replace(self, routes=self.price_lists.get(price_list, {}), price_lists={}) if price_list else self

    def deployment(self, deployment_id: int) -> Deployment | None:
        """The deployment with this id, if it still serves."""
        for route in self.routes.values():
            for deployment in route.deployments:
                if deployment.id == deployment_id:
                    return deployment
        return None
