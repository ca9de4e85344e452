"""The playground's own API key: what people try in the console is metered, limited and listed like everything else."""

from accounts import audit, keys
from accounts.models import ApiKey, Organization, User

KEY_NAME = "Playground"


def key_of(organization: Organization, *, by: User, origin: audit.Origin | None = None) -> ApiKey:
    """The organization's playground key, made when it is first needed and again after it was revoked."""
    return _found(organization) or keys.issue(organization=organization, name=KEY_NAME, by=by, origin=origin).key


def allowed_models(organization: Organization) -> frozenset[str]:
    """The names that the playground's key is limited to; none: all."""
    key = _found(organization)
    return frozenset(key.allowed_models if key else ())


def _found(organization: Organization) -> ApiKey | None:
    key: ApiKey | None = organization.keys.filter(name=KEY_NAME, revoked_at=None, expires_at=None).first()
    return key
