"""What commands print: to a terminal of any width and encoding, to a pipe, and errors as one sentence."""

import codecs
import os
import sys

from rich.console import Console

PIPED = 1000  # columns where nobody reads them: a run a line, whatever its name
_ASCII = {
    **dict.fromkeys(map(chr, range(0x2801, 0x2900)), "*"),  # braille, of which plots are made
    "\u2800": " ", "│": "|", "┼": "+", "⡇": "|", "→": "->", "⟶": "->", "–": "-", "…": "...", "×": "x", "÷": "/",
    "ρ": "rho", "η": "lr", "β": "beta", "λ": "lambda", "γ": "gamma", "κ": "kappa", "μ": "mu", "α": "alpha",
    "₀": "0", "₁": "1", "₂": "2", "√": "sqrt ", "·": "*", "≤": "<=", "≥": ">=", "−": "-", "½": "1/2", "¼": "1/4",
    "“": '"', "”": '"', "‘": "'", "’": "'", "θ": "theta", "σ": "sigma", "\u0302": "",
}  # fmt: skip


class CommandError(Exception):
    """A command cannot do what was asked for; the text says what was expected, what was got, what to do.

    Attributes:
        passing: the same may work later: the network, or the controller, is away.
        code: what the process ends with; 2 if the command line itself does not fit.
    """

    def __init__(self, text: str, *, passing: bool = False, code: int = 1) -> None:
        super().__init__(text)
        self.passing = passing
        self.code = code


def console() -> Console:
    """Standard output; a table is as wide as the terminal, or as its contents where there is none."""
    shown = sys.stdout.isatty() or "COLUMNS" in os.environ
    return Console(width=None if shown else PIPED)


def errors() -> Console:
    """Standard error, without markup: "dcao[server]" is a name and not a style, and no line is broken for a pipe."""
    return Console(stderr=True, markup=False, highlight=False, soft_wrap=True)


def speak_any_encoding() -> None:
    """A terminal that is not UTF-8 gets what it can show in the place of the rest."""
    codecs.register_error("dcao", _spelt)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="dcao")


def _spelt(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(_ASCII.get(letter, "?") for letter in error.object[error.start : error.end]), error.end
