"""A real picture for a prompt: a gradient in the prompt's colours with the prompt written on it."""

import colorsys
import hashlib
import io
import re
import textwrap
from typing import Any

from PIL import Image, ImageDraw, ImageFont

_SIZE = re.compile(r"(\d{2,4})x(\d{2,4})")
FORMATS = {"png": "PNG", "jpeg": "JPEG", "webp": "WEBP"}
# Output tokens of one image by quality, for square, tall and wide ones (OpenAI's figures for the GPT-image family).
_TOKENS = {"low": (272, 408, 400), "medium": (1056, 1584, 1568), "high": (4160, 6240, 6208)}


def dimensions(size: Any) -> tuple[int, int]:
    """`1024x1536` as numbers; anything else is 1024 square."""
    found = _SIZE.fullmatch(size) if isinstance(size, str) else None
    width, height = (int(found[1]), int(found[2])) if found else (1024, 1024)
    return (width, height) if max(width, height) <= 3840 else (1024, 1024)


def tokens(quality: Any, width: int, height: int) -> int:
    """Output tokens of one image."""
    square, tall, wide = _TOKENS.get(str(quality), _TOKENS["medium"])
    return square if width == height else tall if height > width else wide


def render(prompt: str, width: int, height: int, output_format: str = "png", variation: int = 0) -> bytes:
    """An encoded image; the same arguments give the same bytes."""
    digest = hashlib.sha256(f"{prompt}/{variation}".encode(errors="replace")).digest()
    small = Image.new("RGB", (2, 2))
    for corner in range(4):
        red, green, blue = colorsys.hls_to_rgb(digest[corner] / 255, 0.25 + digest[corner + 4] / 1024, 0.55)
        small.putpixel((corner % 2, corner // 2), (int(red * 255), int(green * 255), int(blue * 255)))
    image = small.resize((width, height), Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(image)
    for circle in range(6):
        x, y = digest[circle + 8] * width // 255, digest[circle + 14] * height // 255
        radius = min(width, height) * (digest[circle + 20] + 40) // 900
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), outline="white", width=max(2, width // 300))
    font = ImageFont.load_default(size=max(12, width // 22))
    lines = textwrap.wrap(prompt or "(no prompt)", 34)[:8]
    draw.multiline_text(
        (width / 2, height / 2), "\n".join(lines), font=font, fill="white", anchor="mm", align="center", spacing=8
    )
    small_font = ImageFont.load_default(size=max(10, width // 48))
    draw.text((width - 16, height - 12), "sandbox", font=small_font, fill="white", anchor="rs")
    out = io.BytesIO()
    image.save(out, FORMATS.get(output_format, "PNG"), **({"compress_level": 1} if output_format == "png" else {}))
    return out.getvalue()
