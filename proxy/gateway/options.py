"""What an operator may set of the gateway."""

from dataclasses import dataclass, field

from proxy.gateway.attempts import Deadlines


@dataclass(frozen=True, slots=True)
class Options:
    """Sizes in bytes; `default_rpm` 0 is no limit. `realtime_model` is that of a session which names none."""

    site_url: str
    max_body_bytes: int = 20 * 1024 * 1024
    max_upload_bytes: int = 200 * 1024 * 1024
    realtime_model: str = ""
    default_rpm: int = 0
    trusted_proxies: int = 0
    is_self_hosted: bool = False
    requires_own_key: bool = False
    deadlines: Deadlines = field(default_factory=Deadlines)
