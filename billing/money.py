"""Money is an integer of nano-dollars (10⁻⁹ USD). One credit is one cent."""

import re
from decimal import ROUND_CEILING, Context, Decimal

NANOS_PER_USD = 1_000_000_000
NANOS_PER_CREDIT = 10_000_000
MAX_NANOS = 2**63 - 1
# Digits as the wire has them: no spaces, underscores or digits of other scripts, and no exponent that would make of
# seven characters a number of a million digits. A float's own text (`1e-07`) is one, too.
_AMOUNT = re.compile(r"[+-]?([0-9]{1,40}(\.[0-9]{0,40})?|\.[0-9]{1,40})([eE][+-]?[0-9]{1,2})?")
# Of more digits than such a text has, whatever it is multiplied with: nothing is rounded.
_EXACT = Context(prec=200)


class InvalidAmount(ValueError):
    """`text` is not an amount: not a decimal number, too precise, or out of range."""

    def __init__(self, text: object) -> None:
        super().__init__(f"not an amount: {text!r}")
        self.text = text


def nanos_from_usd(usd: str) -> int:
    """Nano-dollars of a decimal string such as `"0.15"`; more than nine decimals is an `InvalidAmount`."""
    return _scaled(usd, NANOS_PER_USD)


def nanos_from_credits(credits_: str) -> int:
    """Nano-dollars of credits as a decimal string such as `"12.3456"`; at most seven decimals."""
    return _scaled(credits_, NANOS_PER_CREDIT)


def format_credits(nanos: int) -> str:
    """Credits as a decimal string, exact, with at least four decimals: 123456000 -> `"12.3456"`."""
    sign = "-" if nanos < 0 else ""
    whole, fraction = divmod(abs(nanos), NANOS_PER_CREDIT)
    digits = f"{fraction:07d}".rstrip("0")
    return f"{sign}{whole}.{digits:0<4}"


def format_usd(nanos: int, places: int = 2) -> str:
    """Dollars as a decimal string, rounded away from zero at `places`: a cost never shows smaller than it is."""
    sign = "-" if nanos < 0 else ""
    value = (Decimal(abs(nanos)) / NANOS_PER_USD).quantize(Decimal(1).scaleb(-places), ROUND_CEILING)
    return f"{sign}{value:f}"  # never 0E-9


def _scaled(text: str, scale: int) -> int:
    if not isinstance(text, str) or not _AMOUNT.fullmatch(text):
        raise InvalidAmount(text)
    value = _EXACT.multiply(Decimal(text), Decimal(scale))
    whole = int(value)
    if value != whole or abs(whole) > MAX_NANOS:
        raise InvalidAmount(text)
    return whole
