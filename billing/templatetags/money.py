"""Filters that format what pages show of money and of measures; none of them rounds a charge down."""

from django import template
from django.contrib.humanize.templatetags.humanize import intcomma

from billing import money

register = template.Library()


@register.filter
def credits_of(nanos: int | None) -> str:
    """Nano-dollars as exact credits: 123456000 is `12.3456`."""
    if nanos is None:
        return "—"
    whole, _, fraction = money.format_credits(nanos).partition(".")
    return f"{_grouped(whole)}.{fraction}"


@register.filter
def balance_of(nanos: int | None) -> str:
    """Nano-dollars as credits with two decimals, rounded down so that a balance never shows larger than it is."""
    if nanos is None:
        return "—"
    hundredths = nanos // (money.NANOS_PER_CREDIT // 100)
    whole, fraction = divmod(abs(hundredths), 100)
    return f"{'-' if hundredths < 0 else ''}{intcomma(whole)}.{fraction:02d}"


@register.filter
def usd(nanos: int | None, places: int = 2) -> str:
    """Nano-dollars as dollars, rounded away from zero at `places`: `$0.12`."""
    if nanos is None:
        return "—"
    text = money.format_usd(nanos, places)
    whole, point, fraction = text.removeprefix("-").partition(".")
    return f"{'-' if nanos < 0 else ''}${_grouped(whole)}{point}{fraction}"


@register.filter
def usd_balance(nanos: int | None) -> str:
    """Nano-dollars as dollars and cents, rounded down so that a balance never shows larger than it is."""
    if nanos is None:
        return "—"
    cents = nanos // (money.NANOS_PER_USD // 100)
    whole, fraction = divmod(abs(cents), 100)
    return f"{'-' if cents < 0 else ''}${intcomma(whole)}.{fraction:02d}"


@register.filter
def price(nanos: int) -> str:
    """A price in dollars without needless zeros: 250000000 is `$0.25`, 2500 is `$0.0000025`."""
    whole, _, fraction = money.format_usd(nanos, 9).partition(".")
    return f"${_grouped(whole)}.{fraction.rstrip('0'):0<2}"


@register.filter
def credits_short(nanos: int | None) -> str:
    """Nano-dollars as credits with at most four decimals, rounded up: for sums, where the log has the exact figures."""
    if nanos is None:
        return "—"
    step = money.NANOS_PER_CREDIT // 10_000
    return credits_of(-(-nanos // step) * step)


@register.filter
def duration(milliseconds: int | None) -> str:
    """`840 ms`, `1.24 s`, `2 min 5 s`."""
    if milliseconds is None:
        return "—"
    if milliseconds < 1000:
        return f"{milliseconds} ms"
    if milliseconds < 60_000:
        return f"{milliseconds / 1000:.2f} s"
    minutes, seconds = divmod(milliseconds // 1000, 60)
    return f"{minutes} min {seconds} s"


def _grouped(whole: str) -> str:
    """`intcomma` that keeps the sign of `-0`."""
    return f"-{intcomma(int(whole[1:]))}" if whole.startswith("-") else intcomma(int(whole))


@register.filter
def cents(amount: int, currency: str = "usd") -> str:
    """A price in cents: `$19.99`, `19.99 EUR`."""
    text = f"{amount // 100:,}.{amount % 100:02d}"
    return f"${text}" if currency == "usd" else f"{text} {currency.upper()}"


@register.filter
def compact(count: int) -> str:
    """A count that need not be exact: `9,876`, `12.3 k`, `4.57 M`, `1.2 B`."""
    for unit, size in (("B", 10**9), ("M", 10**6), ("k", 10**3)):
        if count >= 10 * size or (count >= size and unit != "k"):
            scaled = count / size
            return f"{scaled:,.{0 if scaled >= 100 else 1 if scaled >= 10 else 2}f} {unit}"
    return intcomma(count)
