"""Taking out of a text what nobody should find in it later: keys and cards always, addresses and numbers of people.

It errs on the side of taking too much; what it knows nothing of, such as names, it leaves.
"""

import re

_KEYS = (
    re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL),
    re.compile(r"\b(?:sk|pk|rk|whsec|ek)[-_][A-Za-z0-9_-]{16,}"),
    re.compile(r"\b(?:ghp|gho|ghu|ghs|ghr|github_pat|glpat|xox[abprs]|npm|hf|dop_v1|shpat)[-_][A-Za-z0-9_-]{16,}"),
    re.compile(r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"),
    re.compile(r"\bAIza[A-Za-z0-9_-]{30,}"),
    re.compile(r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}"),
    re.compile(r"(?i)(?<=bearer )[A-Za-z0-9._~+/-]{16,}=*"),
)
_ASSIGNED = re.compile(
    r"(?i)\b(password|passwd|secret|api[_-]?key|access[_-]?token)(\\?[\"']?\s*[:=]\s*\\?[\"']?)([^\s\"'\\,;}]{6,})"
)
_EMAIL = re.compile(r"[A-Za-z0-9._%+-]+@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*\.[A-Za-z]{2,}")
# Groups of digits as people write them; shorter than nine digits is a year, a price, a count.
_DIGITS = re.compile(r"(?<![\w.])\+?\(?\d(?:[ ./()-]{0,2}\d){8,18}(?![\w])")
MIN_CARD, MAX_CARD = 13, 19
MIN_PHONE, MAX_PHONE = 9, 15


def redact(text: str, *, personal: bool) -> str:
    """`text` with `[key]` and `[card]` in the place of such; `personal`: `[email]` and `[phone]` too."""
    for pattern in _KEYS:
        text = pattern.sub("[key]", text)
    text = _ASSIGNED.sub(lambda found: f"{found[1]}{found[2]}[key]", text)
    if personal:
        text = _EMAIL.sub("[email]", text)
    return _DIGITS.sub(lambda found: _number(found[0], personal=personal), text)


def _number(text: str, *, personal: bool) -> str:
    digits = [int(character) for character in text if character.isdigit()]
    if MIN_CARD <= len(digits) <= MAX_CARD and _is_luhn(digits):
        return "[card]"
    # A bare run of digits may be an id or a time, and one dot a decimal point; what is written as a number to dial is
    # neither.
    looks_dialled = text[0] in "+(0" or any(separator in text for separator in " -/()") or text.count(".") > 1
    if personal and MIN_PHONE <= len(digits) <= MAX_PHONE and looks_dialled:
        return "[phone]"
    return text


def _is_luhn(digits: list[int]) -> bool:
    """The check digit of ISO/IEC 7812."""
    total = 0
    for position, digit in enumerate(reversed(digits)):
        doubled = digit * 2 if position % 2 else digit
        total += doubled - 9 if doubled > 9 else doubled
    return total % 10 == 0
