"""Staff's view of money."""

from billing import price_admin

__all__ = ["price_admin"]
