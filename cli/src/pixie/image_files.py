"""Pictures as files: told by their first bytes, named by prompt and number, never over another file."""

import base64
import binascii
from pathlib import Path

from pixie.errors import PixieError, UsageError
from pixie.texts import file_stem

MAX_INPUT_BYTES = 50 * 1024 * 1024
_MAX_NUMBER = 100_000


def directory(path: Path) -> Path:
    """The directory to write to, made where it is missing. Raises `UsageError` before anything is paid for."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe = path / ".pixie-probe"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise UsageError(f"Cannot write to {path}: {error.strerror}.", "Choose another directory with -o.") from None
    return path


def write(data: bytes, prompt: str, into: Path) -> Path:
    """A new file `prompt-N.ext` with the first free number."""
    stem, suffix = file_stem(prompt), extension(data)
    for number in range(1, _MAX_NUMBER):
        path = into / f"{stem}-{number}{suffix}"
        if _is_taken(path):
            continue
        try:
            with path.open("xb") as file:
                file.write(data)
        except FileExistsError:
            continue
        except OSError as error:
            raise PixieError(f"{path} cannot be written: {error.strerror}.") from None
        return path
    raise PixieError(f"There are too many files named {stem} in {into}.")


def read(path: Path) -> tuple[str, bytes, str]:
    """Name, bytes and media type of a picture to send. Raises `UsageError`."""
    try:
        if path.stat().st_size > MAX_INPUT_BYTES:
            raise UsageError(f"{path} is larger than {MAX_INPUT_BYTES // 2**20} MB.")
        data = path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}.") from None
    media_type = {".png": "image/png", ".jpg": "image/jpeg", ".webp": "image/webp", ".gif": "image/gif"}.get(
        extension(data)
    )
    if media_type is None:
        raise UsageError(f"{path} is no PNG, JPEG, WebP or GIF.")
    return path.name, data, media_type


def decoded(text: object) -> bytes:
    """The bytes of base64 in an answer."""
    try:
        return base64.b64decode(str(text), validate=True)
    except (binascii.Error, ValueError):
        raise PixieError("The server's answer has a picture that cannot be read.") from None


def extension(data: bytes) -> str:
    """The ending of a file by what is in it."""
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return ".png"
    if data.startswith(b"\xff\xd8\xff"):
        return ".jpg"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return ".webp"
    return ".gif" if data[:6] in {b"GIF87a", b"GIF89a"} else ".bin"


def _is_taken(path: Path) -> bool:
    """Whether a file of this name is there, whatever its ending."""
    return any(path.with_suffix(suffix).exists() for suffix in (".png", ".jpg", ".webp", ".gif", ".bin"))
