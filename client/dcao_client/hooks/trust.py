"""How far a run may go, from what is asked for and what can be steered."""

from __future__ import annotations

from dcao_proto import Bounds
from dcao_proto.optimizers import OptimizerName
from dcao_proto.run import Trust


def how_far(
    wanted: Trust | None, name: OptimizerName, said: str, policy: str, bounds: Bounds | None, *, follows: bool
) -> Trust | None:
    """As asked for, `guard` by default, None where a law moves within bounds of its own.

    Args:
        said: of an optimizer of unknown edge, what it is and which are known.

    Raises:
        ValueError: `auto` goes with neither the law nor the optimizer; the message says what does.
    """
    if wanted not in (None, "watch", "guard", "auto"):
        raise ValueError(f"expected trust 'watch', 'guard' or 'auto', got {wanted!r}")
    if not follows:
        if wanted == "auto":
            raise ValueError(
                f"expected trust 'auto' with the policy default, got it with '{policy}', which moves the learning rate "
                "within bounds of yours; leave trust out, or the policy"
            )
        return wanted
    if wanted == "auto" and name == "other":
        raise ValueError(f"expected an optimizer whose edge of stability is known for trust 'auto', got {said}")
    return wanted or ("guard" if bounds is None else None)
