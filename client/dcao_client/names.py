"""Names that people give to runs and projects, and what goes into a path or onto the wire for them."""

import hashlib
import re

from dcao_client.errors import SettingsError
from dcao_proto.message import NAME_PATTERN

LONGEST = 200  # characters


def wire_name(text: str) -> str:
    """The name on the wire: the text itself where it can be, else its readable part and a digest of all of it.

    Raises:
        SettingsError: the text is empty or longer than 200 characters.

    Example:
        >>> wire_name("resnet50")
        'resnet50'
        >>> wire_name("team/exp-3")
        'team-exp-3-542169799e5fb343'
    """
    if not 0 < len(text) <= LONGEST:
        raise SettingsError(f"expected a name of 1 to {LONGEST} characters, got {len(text)}; shorten it")
    if re.fullmatch(NAME_PATTERN, text):
        return text
    readable = re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-._")[:46]
    # Eight bytes: of four, two of some 80,000 names share one, and would share a run and its journal.
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
    return f"{readable}-{digest}" if readable else f"run-{digest}"
