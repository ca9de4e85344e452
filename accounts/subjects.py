"""Subjects of letters: names in them are their owners' words, and a header is one line."""

MAX_SUBJECT = 200


def one_line(text: str) -> str:
    """`text` without what no header may have: line breaks, control characters, endless length."""
    printable = "".join(character if character.isprintable() else " " for character in text)
    return " ".join(printable.split())[:MAX_SUBJECT]
