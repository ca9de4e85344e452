"""Pictures inside a terminal that can show them: kitty's graphics protocol, and iTerm2's inline images."""

import base64
import os
import sys
from typing import Literal

Protocol = Literal["kitty", "iterm", ""]

COLUMNS = 40
_CHUNK = 4096
_PNG = b"\x89PNG\r\n\x1a\n"
_KITTY = {"ghostty", "kitty", "wezterm"}
_ITERM = {"iterm.app", "iterm2", "mintty", "wezterm", "vscode", "hyper"}


def protocol() -> Protocol:
    """What this terminal speaks, "" if nothing: by what terminals say of themselves, or as `PIXIE_PREVIEW` says."""
    chosen = os.environ.get("PIXIE_PREVIEW", "").lower()
    if chosen in {"kitty", "iterm"}:
        return "kitty" if chosen == "kitty" else "iterm"
    if chosen or not sys.stderr.isatty() or os.environ.get("TMUX") or os.environ.get("STY"):
        return ""
    program = os.environ.get("TERM_PROGRAM", "").lower()
    if os.environ.get("KITTY_WINDOW_ID") or "kitty" in os.environ.get("TERM", "") or program in _KITTY:
        return "kitty"
    return "iterm" if program in _ITERM or os.environ.get("LC_TERMINAL", "").lower() in _ITERM else ""


def show(data: bytes, speaks: Protocol) -> bool:
    """Draw a picture on stderr; False where it cannot be."""
    shown = escaped(data, speaks)
    if shown:
        sys.stderr.write(shown)
        sys.stderr.flush()
    return bool(shown)


def escaped(data: bytes, speaks: Protocol) -> str:
    """What draws the picture; "" where the terminal cannot."""
    if speaks == "iterm":
        told = f"inline=1;size={len(data)};width={COLUMNS};preserveAspectRatio=1"
        return f"\x1b]1337;File={told}:{base64.b64encode(data).decode()}\x07\n"
    if speaks != "kitty" or not data.startswith(_PNG):  # kitty reads PNG alone
        return ""
    text = base64.b64encode(data).decode()
    pieces = [text[at : at + _CHUNK] for at in range(0, len(text), _CHUNK)]
    drawn = []
    for number, piece in enumerate(pieces):
        first = f"a=T,f=100,q=2,c={COLUMNS}," if number == 0 else ""
        drawn.append(f"\x1b_G{first}m={int(number < len(pieces) - 1)};{piece}\x1b\\")
    return "".join(drawn) + "\n"
