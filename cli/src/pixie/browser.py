"""Opening pages for the user; `PIXIE_NO_BROWSER` where there is none to open."""

import os
import sys
import webbrowser


def open_page(url: str) -> bool:
    """Whether a browser has been asked to show `url`: only a page of the web, and not inside the terminal."""
    if os.environ.get("PIXIE_NO_BROWSER") or not url.startswith(("http://", "https://")) or not _has_screen():
        return False
    try:
        return webbrowser.open(url)
    except (webbrowser.Error, OSError):
        return False


def _has_screen() -> bool:
    """Without one Python would start a browser for terminals in the middle of ours."""
    if sys.platform in {"win32", "darwin"}:
        return True
    return any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"))
