"""Text of a file that a person wrote with whatever editor: byte order marks and line ends are no part of a secret."""

import codecs
from pathlib import Path

_MARKS = (  # UTF-32's mark begins with UTF-16's
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
    (codecs.BOM_UTF8, "utf-8-sig"),
)

MOST_BYTES = 1 << 20  # ten thousand API keys; a device or a checkpoint that is named by mistake never ends


def read_text(path: Path) -> str:
    """The file's text: UTF-8, or what its byte order mark says (PowerShell's `>` writes UTF-16).

    Raises:
        OSError: it cannot be read.
        ValueError: it is neither; the text quotes nothing of it.
    """
    with path.open("rb") as file:
        data = file.read(MOST_BYTES + 1)
    if len(data) > MOST_BYTES:
        raise ValueError(f"expected a text of {MOST_BYTES >> 20} MiB at most, got more; name the right file")
    encoding = next((name for mark, name in _MARKS if data.startswith(mark)), "utf-8")
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError:
        raise ValueError("expected text in UTF-8, got other bytes; save the file as UTF-8") from None
    if "\0" in text:
        raise ValueError("expected text in UTF-8, got bytes of 0 (UTF-16 without its mark?); save the file as UTF-8")
    return text


def read_secret(path: Path) -> str:
    """One line, without its end.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is no text, has nothing in it, or more than one line.
    """
    secret = read_text(path).rstrip("\r\n")
    if not secret:
        raise ValueError("expected one line of text, got an empty file; write the secret into it")
    if len(secret.splitlines()) > 1:
        raise ValueError("expected one line of text, got several; leave the secret alone in it")
    return secret
