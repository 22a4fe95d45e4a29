"""Why the values are what they are: a decision in sentences, from its codes, its numbers and the table of words."""

import re
from collections.abc import Iterator, Mapping
from decimal import ROUND_HALF_UP, Context, Decimal

from dcao_proto.decision import Decision
from dcao_proto.policy.reasons import SENTENCES

_OPTIONAL = re.compile(r"\[([^\[\]]*)\]")
_PLACE = re.compile(r"\{([a-z][a-z0-9_]*)\}")
_THREE = Context(prec=3, rounding=ROUND_HALF_UP)  # what JavaScript's toPrecision does
MINUS, ARROW = "\u2212", "\u2192"


def spell(value: float) -> str:
    """About three significant digits; a power of ten from five digits on and below a thousandth.

    Example:
        >>> [spell(x) for x in (0.0, 0.86, 1234.5, 0.00012, -2e7)]
        ['0', '0.86', '1235', '1.2e\u22124', '\u22122e7']
    """
    if value == 0:
        return "0"
    exact, size = Decimal(value), abs(value)
    if 1000 <= size < 1e5:
        text = str(int(exact.quantize(Decimal(1), rounding=ROUND_HALF_UP)))
    else:
        short = exact.normalize(_THREE)
        exponent = short.adjusted()
        if size >= 1e5 or size < 1e-3:
            text = f"{short.scaleb(-exponent).normalize():f}e{exponent}"
        else:
            text = f"{short:f}"
    return text.replace("-", MINUS)


def why(
    decision: Decision, before: Decision | None = None, sentences: Mapping[str, str] = SENTENCES
) -> tuple[str, ...]:
    """The sentences of a decision: its causes, then those of its reasons that no cause speaks for.

    Args:
        decision: of any version; what was decided before there were causes has its reasons.
        before: the decision just before it, for "from what to what"; one that is not just before is not used.
        sentences: by code. A code that is not among them stands for itself, with its numbers.

    Example:
        >>> from dcao_proto import Hyperparameters, Observation, PolicyChoice, RunSpec
        >>> from dcao_proto.policy import PolicyState, bind
        >>> law = bind(RunSpec(optimizer="sgd", base=Hyperparameters(lr=0.1), policy=PolicyChoice(name="edge")))
        >>> why(law.decide(Observation(step=0, rho=38.0, gamma=1.0), PolicyState(), 0))[0]
        'Sharpness is 1.9 × its edge: learning rate × 0.725, 0.0725.'
    """
    known = _values(decision, before)
    causes = decision.causes or ()
    said = [_say(cause.code, {**known, **_spelt(cause.numbers)}, sentences) for cause in causes]
    spoken = {cause.code for cause in causes}
    said += [_say(reason, known, sentences) for reason in decision.reasons if reason not in spoken]
    return tuple(dict.fromkeys(said))


def _spelt(numbers: Mapping[str, float]) -> dict[str, str]:
    return {name: spell(value) for name, value in numbers.items()}


def _values(decision: Decision, before: Decision | None) -> dict[str, str]:
    factors = decision.multipliers
    just_before = before is not None and before.version + 1 == decision.version

    def moves() -> Iterator[tuple[str, str]]:
        for name in ("lr", "momentum", "weight_decay"):
            now, then = spell(getattr(decision, name)), spell(getattr(before, name)) if just_before else None
            yield name, now if then in (None, now) else f"{then} {ARROW} {now}"

    return {**dict(moves()), "f": spell(factors.lr), "g": spell(factors.momentum), "h": spell(factors.weight_decay)}


def _say(code: str, words: Mapping[str, str], sentences: Mapping[str, str]) -> str:
    sentence = sentences.get(code)
    if sentence is None:
        return code
    return _fill(_OPTIONAL.sub(lambda part: _fill(part[1], words) if _holds(part[1], words) else "", sentence), words)


def _holds(part: str, words: Mapping[str, str]) -> bool:
    return all(name in words for name in _PLACE.findall(part))


def _fill(text: str, words: Mapping[str, str]) -> str:
    return _PLACE.sub(lambda place: words.get(place[1], "?"), text)
