"""Linear layers multiplied by oneDNN where that is faster than the library torch calls for them.

Torch multiplies single-precision matrices on x86 by MKL, which does not use the AVX-512 units of processors other
than its maker's; oneDNN, with which torch computes convolutions, does. The same function, summed in another order:
gradients of large linear layers take 0.5 to 0.7 of the time on such a processor (``benchmarks/probe_linear.py``), and
on others nothing changes, because ``faster`` times both.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

# Multiplications of one matrix product beyond which it is done. By itself a layer breaks even between one and four
# million (``benchmarks/probe_linear.py``); within the probes of an MLP, one million was 2 to 3 % cheaper than four.
LEAST = 1 << 20
# Of MKL's time that oneDNN may take. Far from the 0.45 and from the 1 that there are, so that noise does not decide.
WORTH = 0.8
# Side of the square matrices that are timed, 0.3 ms a product, and how often; the shortest time counts.
SIDE, REPEATS = 256, 7


@functools.cache
def faster() -> bool:
    """Whether oneDNN multiplies single-precision matrices faster here; timed once in a process, 5 ms."""
    available = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    if not (available and hasattr(torch.ops.mkldnn, "_linear_pointwise")):
        return False
    a, b = torch.ones(SIDE, SIDE), torch.ones(SIDE, SIDE)
    with torch.no_grad(), torch.autocast("cpu", enabled=False):
        usual, other = _shortest(nn.functional.linear, a, b), _shortest(_multiply, a, b)
    return other < WORTH * usual


def _shortest(product: Callable[[Tensor, Tensor], Tensor], a: Tensor, b: Tensor) -> float:
    times = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        product(a, b)
        times.append(time.perf_counter() - began)
    return min(times)


def _multiply(a: Tensor, b: Tensor, bias: Tensor | None = None) -> Tensor:
    """a bᵀ + bias of shapes (n, k), (m, k) and (m,)."""
    # oneDNN has no fast way through a matrix with holes: a thousand times the time.
    b = b.mT.contiguous().mT if b.stride(0) == 1 else b.contiguous()
    return cast("Tensor", torch.ops.mkldnn._linear_pointwise.default(a, b, bias, "none", [], ""))


class _Linear(torch.autograd.Function):
    """x Wᵀ + b with x of shape (n, k), W (m, k), b (m,) or None."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        x = x.contiguous()
        ctx.save_for_backward(x, weight)
        return _multiply(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (out,), (x, weight) = gradients, ctx.saved_tensors
        by_x, by_weight, by_bias = ctx.needs_input_grad
        if torch.is_grad_enabled():  # a loss that contains a gradient: oneDNN's product has no derivative of its own
            multiply: Callable[[Tensor, Tensor], Tensor] = lambda a, b: a @ b.t()  # noqa: E731
        else:
            multiply = _multiply
        return (
            multiply(out, weight.t()) if by_x else None,
            multiply(out.t(), x.t()) if by_weight else None,
            out.sum(0) if by_bias else None,
        )


def _linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """x Wᵀ + b for any number of leading dimensions."""
    rows = x if x.dim() == 2 else x.reshape(-1, x.shape[-1])
    out = cast("Tensor", _Linear.apply(rows, weight, bias))  # type: ignore[no-untyped-call]
    return out if x.dim() == 2 else out.view(*x.shape[:-1], len(weight))


class OneDNN(TorchFunctionMode):
    """Inside it ``linear``, ``addmm`` and products with a matrix go to oneDNN if they are large enough.

    >>> layer, x = nn.Linear(256, 256), torch.randn(128, 256)
    >>> with OneDNN():
    ...     y = layer(x)
    >>> bool(torch.allclose(y, layer(x), atol=1e-5))
    True
    """

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        operands = _OPERANDS.get(getattr(func, "__name__", ""))
        if operands is not None:
            try:
                x, weight, bias = operands(*args, **(kwargs or {}))
            except TypeError:  # another form of the call, such as one with ``out``
                return func(*args, **(kwargs or {}))
            if _fits(x, weight, bias):
                return _linear(x, weight, bias)
        return func(*args, **(kwargs or {}))


def _fits(x: Tensor, weight: Tensor, bias: Tensor | None) -> bool:
    """Whether these are large single-precision matrices on the CPU whose shapes belong together."""
    return (
        all(_plain(t) for t in (x, weight, bias) if t is not None)
        and x.dim() >= 2
        and weight.dim() == 2
        and x.shape[-1] == weight.shape[1]
        and (bias is None or bias.shape == weight.shape[:1])
        and x.numel() * len(weight) > LEAST
        and not torch.is_autocast_enabled("cpu")
    )


def _plain(tensor: Any) -> bool:
    return (
        type(tensor) in (Tensor, nn.Parameter)
        and tensor.dtype is torch.float32
        and tensor.device.type == "cpu"
        and tensor.layout is torch.strided
    )


Operands = tuple[Tensor, Tensor, Tensor | None]


def _of_linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Operands:  # noqa: A002  (torch's name)
    return input, weight, bias


def _of_matmul(input: Tensor, other: Tensor) -> Operands:  # noqa: A002
    return input, other.mT if other.dim() == 2 else other, None


def _of_addmm(input: Tensor, mat1: Tensor, mat2: Tensor) -> Operands:  # noqa: A002
    return mat1, mat2.mT if mat2.dim() == 2 else mat2, input


_OPERANDS: dict[str, Callable[..., Operands]] = {
    "linear": _of_linear,
    **dict.fromkeys(("matmul", "__matmul__", "mm"), _of_matmul),
    "addmm": _of_addmm,
}
