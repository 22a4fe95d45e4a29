"""What the path is in every framework: which elements stand for all, where it starts, and how fast it may grow."""

STRIDE, WHOLE, MOST = 8, 1 << 14, 1 << 16
FIRST_DISTANCE = 1e-4  # of 1 + ‖x₀‖, where no curvature says how far the first step may go (DoG's own choice)
# Momentum answers a rate over 1/(1−β) steps, so the rate grows by no more than e in that time. Measured on a post-LN
# language model under AdamW, β₁ = 0.9: 1.1 a step 1.89, 1.05 1.98, 1.2 and beyond lost (docs/policies.md).
LEAST_GROWTH = 0.05
# Below a rate that the user has set there is less to fear, and a short run has no time for that: on the same model, at
# the tuned rate, 1.1 a step costs .14 and 2 a step .01. Not under SGD: there a CNN was lost at 8 times the tuned rate.
GUARDED_GROWTH = 1.0
# A rate below this share of r/√G moves nothing; growing from there takes 145 steps at β = 0.9, from a rate of 1e-300
# it would take 7,000.
LEAST_LEVEL = 2.0**-20
# Of 1/λ₁: a network that starts on a plateau has a small λ₁ there, and momentum goes on where averaging would not. A
# plain CNN with torch's initialisation under SGD ends at .76 with the whole, .82 with a third, .82 with a tenth.
FIRST_SHARE = 1 / 3


def stride_of(size: int) -> int:
    """From one element that stands for others to the next.

    A tensor of up to 16,384 elements is measured whole; of a larger one every eighth (Prodigy takes every eleventh), or
    as many less as leave 65,536: their sums are within half a percent of the whole's, and it is their ratio that
    matters.

    >>> stride_of(16_384), stride_of(400_000), stride_of(10_000_000)
    (1, 8, 153)
    """
    return 1 if size <= WHOLE else max(STRIDE, -(-size // MOST))
