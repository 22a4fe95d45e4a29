"""Piecewise functions held on the piece they are on, so that a network with kinks can be differentiated by
differences.

The Hessian that autograd defines ignores kinks: the derivative of relu(x) is a mask, and a mask has
    derivative zero. A difference of gradients does not ignore them: a few of a million activations change
    sign under the smallest step, and the product is off by a sixth at any step length. Replaying the masks,
    pool indices and clamps recorded at the point itself makes the shifted network smooth, and the
    difference converges to the Hessian that autograd defines.

Limits: only functions called from Python are seen (not those inside fused or scripted code), and only those
    in the table below. ``choose`` therefore compares one product with double backward before it trusts the
    result.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

Handler = Callable[["FrozenKinks", str, tuple[Any, ...], dict[str, Any]], Any]


class KinksMovedError(RuntimeError):
    """The shifted forward called other functions, or other shapes, than the one recorded."""


class FrozenKinks(TorchFunctionMode):
    """Records the pieces of one evaluation, then holds every later one on them.

    >>> x = torch.tensor([-1.0, 1.0])
    >>> kinks = FrozenKinks()
    >>> with kinks.recording():
    ...     first = torch.relu(x)
    >>> with kinks.replaying():
    ...     torch.relu(x + 2.0)
    tensor([0., 3.])
    """

    def __init__(self) -> None:
        super().__init__()
        self.tape: list[Tensor] = []
        self.position: int | None = None

    def recording(self) -> FrozenKinks:
        """Use as ``with kinks.recording(): evaluate at the point itself``."""
        self.tape.clear()
        self.position = None
        return self

    def replaying(self) -> FrozenKinks:
        """Use as ``with kinks.replaying(): evaluate nearby``."""
        self.position = 0
        return self

    def piece(self, make: Callable[[], Tensor]) -> Tensor:
        """The next recorded piece; while recording, the one that ``make`` finds.

        Raises:
            KinksMovedError: more pieces are asked for than were recorded.
        """
        if self.position is None:
            with torch.no_grad():
                self.tape.append(make())
            return self.tape[-1]
        if self.position >= len(self.tape):
            raise KinksMovedError("expected the same piecewise functions as at the point itself; got more of them")
        self.position += 1
        return self.tape[self.position - 1]

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        handler = _HANDLERS.get(name)
        if handler is None:
            return func(*args, **kwargs)
        done = handler(self, name, args, kwargs)
        return func(*args, **kwargs) if done is NotImplemented else done


def _number(mask: Tensor, like: Tensor) -> Tensor:
    """A boolean mask as new zeros and ones: bytes are cast seven times faster than booleans, and masked products or
    ``where`` of booleans are slower still."""
    return mask.view(torch.uint8).to(like.dtype)


class _Held(torch.autograd.Function):
    """x where a boolean mask says so, else 0; keeps a byte per element for its derivative."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, mask: Tensor) -> Tensor:
        ctx.save_for_backward(mask)
        return _number(mask, x).mul_(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return _number(ctx.saved_tensors[0], gradients[0]).mul_(gradients[0]), None


def _held(x: Tensor, mask: Tensor) -> Tensor:
    if mask.shape != x.shape:
        raise KinksMovedError(f"expected an activation of shape {tuple(mask.shape)}; got {tuple(x.shape)}")
    return cast("Tensor", _Held.apply(x, mask))  # type: ignore[no-untyped-call]


def _relu(kinks: FrozenKinks, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    x: Tensor = args[0] if args else kwargs["input"]
    inplace = name.endswith("_") or bool(kwargs.get("inplace", args[1] if len(args) > 1 else False))
    out = _held(x, kinks.piece(lambda: x > 0))
    return x.copy_(out) if inplace else out


def _leaky(kinks: FrozenKinks, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    x = args[0] if args else kwargs["input"]
    slope = kwargs.get("negative_slope", args[1] if len(args) > 1 else 0.01)
    mask = kinks.piece(lambda: x > 0)
    out = _held(x, mask) + slope * _held(x, ~mask)
    inplace = name.endswith("_") or kwargs.get("inplace", False)
    return cast("Tensor", x.copy_(out)) if inplace else out


def _prelu(kinks: FrozenKinks, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    x, weight = args
    shape = [1, -1] + [1] * (x.dim() - 2) if x.dim() > 1 and weight.numel() > 1 else [-1]
    mask = kinks.piece(lambda: x > 0)
    return _held(x, mask) + _held(x, ~mask) * cast("Tensor", weight.view(shape))


def _abs(kinks: FrozenKinks, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    x: Tensor = args[0]
    sign = kinks.piece(x.sign)
    if sign.shape != x.shape:
        raise KinksMovedError(f"expected a tensor of shape {tuple(sign.shape)}; got {tuple(x.shape)}")
    return x * sign


def _clamp(kinks: FrozenKinks, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Any function that is the identity inside two constant limits: hold who is inside, and the constants outside."""
    x = args[0]
    inplace = name.endswith("_") or kwargs.get("inplace", False)
    if inplace or not x.is_floating_point():
        return NotImplemented
    clamp = getattr(nn.functional, name, None) or getattr(torch, name)

    def inside() -> Tensor:
        return cast("Tensor", clamp(x, *args[1:], **kwargs) == x)

    mask = kinks.piece(inside)
    fixed = clamp(x.detach(), *args[1:], **kwargs)
    return _held(x, mask) + fixed * _number(~mask, x)


def _hardswish(kinks: FrozenKinks, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    x = args[0]
    if kwargs.get("inplace", False):
        return NotImplemented
    below, above = kinks.piece(lambda: x < -3), kinks.piece(lambda: x > 3)
    middle = x * (x + 3) / 6 if name == "hardswish" else (x + 3) / 6
    top = _held(x, above) if name == "hardswish" else _number(above, x)
    return _held(middle, ~(below | above)) + top


def _pool(kinks: FrozenKinks, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Max pooling of any dimension: gather what won at the point itself."""
    dims = int(name[name.index("pool") + 4])
    x = args[0] if args else kwargs.pop("input")
    both = kwargs.get("return_indices", False) or name.endswith("with_indices")
    options = {k: v for k, v in kwargs.items() if k != "return_indices"}
    base = name.removesuffix("_with_indices")
    if base.startswith("adaptive"):
        finder = getattr(nn.functional, f"{base}_with_indices")
        indices = kinks.piece(lambda: finder(x, *args[1:2], **options)[1])
    else:
        finder = getattr(nn.functional, f"{base}_with_indices")
        indices = kinks.piece(lambda: finder(x, *args[1:6], **options)[1])
    lead = x.shape[:-dims]
    if indices.shape[:-dims] != lead:
        raise KinksMovedError(f"expected a pooled map of shape {tuple(indices.shape)}; got {tuple(x.shape)}")
    out = _gathered(x, indices, dims)
    return (out, indices) if both else out


def _gathered(x: Tensor, indices: Tensor, dims: int) -> Tensor:
    """The entries of each map at flat positions in it, in the maps' own order in memory."""
    if x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last):
        last = x.permute(0, 2, 3, 1).flatten(1, 2), indices.permute(0, 2, 3, 1)
        return last[0].gather(1, last[1].flatten(1, 2)).view(last[1].shape).permute(0, 3, 1, 2)
    lead = x.shape[:-dims]
    return x.reshape(*lead, -1).gather(-1, indices.reshape(*lead, -1)).view(indices.shape)


def _larger(kinks: FrozenKinks, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """maximum and minimum of two tensors."""
    if len(args) != 2 or kwargs or not all(isinstance(a, Tensor) for a in args):
        return NotImplemented
    a, b = args
    first = kinks.piece(lambda: a >= b if name == "maximum" else a <= b)
    return torch.where(first, a, b)


def _reduced(kinks: FrozenKinks, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """amax and amin over one dimension."""
    x = args[0]
    dim = kwargs.get("dim", args[1] if len(args) > 1 else None)
    dim = dim[0] if isinstance(dim, list | tuple) and len(dim) == 1 else dim
    if not isinstance(dim, int):
        return NotImplemented
    keep = kwargs.get("keepdim", args[2] if len(args) > 2 else False)
    index = kinks.piece(lambda: (x.argmax if name == "amax" else x.argmin)(dim, keepdim=True))
    out = x.gather(dim, index)
    return out if keep else out.squeeze(dim)


_HANDLERS: dict[str, Handler] = {
    **dict.fromkeys(("relu", "relu_"), _relu),
    **dict.fromkeys(("leaky_relu", "leaky_relu_"), _leaky),
    "prelu": _prelu,
    **dict.fromkeys(("abs", "absolute", "__abs__"), _abs),
    **dict.fromkeys(("clamp", "clip", "clamp_min", "clamp_max", "hardtanh", "relu6"), _clamp),
    **dict.fromkeys(("hardswish", "hardsigmoid"), _hardswish),
    **{
        f"{kind}max_pool{dims}d{suffix}": _pool
        for kind in ("", "adaptive_")
        for dims in (1, 2, 3)
        for suffix in ("", "_with_indices")
    },
    **dict.fromkeys(("maximum", "minimum"), _larger),
    **dict.fromkeys(("amax", "amin"), _reduced),
}
