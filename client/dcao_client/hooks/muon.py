"""The Muon form: matrices of hidden layers step by their orthogonalised momentum, everything else by the Adam form.

    m ← βm + (1−β)g                 β = 0.9
    d = 0.2·√max(rows, columns) · msign(m)          as long, entry by entry, as Adam's usual update
    P = ⟨m̂, d⟩/‖d‖²                 one number a matrix: the mean singular value of m̂ over the factor above

Under the left preconditioner (m mᵀ)^½ the update is a gradient, P⁻¹m. Of that matrix P here is the mean eigenvalue:
⟨m̂, d⟩, what a step adds to G (the nuclear norm of m̂), is the same under both, r and λ₁ are measured as in the diagonal
forms, and the ratio η√G/r at the best constant rate was found the same within a tenth (docs/policies.md).

References:
    Jordan et al. 2024, "Muon: an optimizer for hidden layers in neural networks" (the quintic Newton–Schulz iteration
    and its coefficients); Liu et al. 2025, "Muon is scalable for LLM training", arXiv:2502.16982, §2.2 (0.2·√max).

How it differs from the textbook:
1. Convolution kernels are flattened to out × rest.
2. No Nesterov step: schedule-free averaging looks ahead already.
3. Matrices of one shape are iterated together.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from dcao_client.hooks.forms import Adam, Tensors, Update
from dcao_client.hooks.path_meter import PathMeter
from dcao_proto.optimizers import OptimizerName

BETA = 0.9
A, B, C = 3.4445, -4.7750, 2.0315
ITERATIONS = 5
LIKE_ADAM = 0.2
TINY = 1e-20


def msign(matrices: Tensor) -> Tensor:
    """The orthogonal factor U·Vᵀ of each matrix of a stack, singular values within 0.7 … 1.2; 0 of a zero matrix.

    >>> bool((torch.linalg.svdvals(msign(torch.randn(3, 8, 5))) - 1).abs().max() < 0.4)
    True
    """
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.mT if tall else matrices
    x = x / x.norm(dim=(-2, -1), keepdim=True).clamp_min(torch.finfo(x.dtype).tiny)
    if x.is_cuda:
        x = x.bfloat16()
    for _ in range(ITERATIONS):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=B, alpha=C), x, beta=A)
    return (x.mT if tall else x).to(matrices.dtype)


def hidden_matrices(model: nn.Module) -> list[nn.Parameter]:
    """The weights that Muon is for: of at least two dimensions, not an embedding, not of the first or the last layer.

    A weight is what is called so (`weight`, `in_proj_weight`, `weight_ih_l0`): tables of positions and the like are
    not. An embedding is the first layer where there is one. Grouped convolutions are many small matrices, no one.
    """
    tables = [m for m in model.modules() if isinstance(m, nn.Embedding | nn.EmbeddingBag)]
    tied = {id(p) for table in tables for p in table.parameters()}
    found = [
        (p, getattr(module, "groups", 1) == 1)
        for module in model.modules()
        for name, p in module.named_parameters(recurse=False)
        if p.ndim >= 2 and "weight" in name and id(p) not in tied
    ]
    headless = found if _is_tied_head(model, tied) else found[:-1]
    return [p for p, whole in headless[0 if tables else 1 :] if whole and is_matrix(p)]


def _is_tied_head(model: nn.Module, tied: set[int]) -> bool:
    """Whether the last layer shares its weight with an embedding."""
    last = [p for m in model.modules() for n, p in m.named_parameters(recurse=False) if p.ndim >= 2 and "weight" in n]
    return bool(last) and id(last[-1]) in tied


def is_matrix(parameter: Tensor) -> bool:
    """Whether it can be orthogonalised: real, two sides of more than one."""
    if parameter.ndim < 2 or parameter.is_complex():
        return False
    return parameter.shape[0] > 1 and parameter.numel() > parameter.shape[0]


def directions(momenta: list[Tensor]) -> list[Tensor]:
    """d of each: one iteration for all that have the same shape."""
    alike: dict[tuple[Any, ...], list[int]] = {}
    for i, m in enumerate(momenta):
        alike.setdefault((m.shape[0], m.numel(), m.dtype, m.device), []).append(i)
    found: list[Any] = [None] * len(momenta)
    for (rows, numel, *_), where in alike.items():
        stack = torch.stack([momenta[i].reshape(rows, -1) for i in where])
        signs = msign(stack).mul_(LIKE_ADAM * math.sqrt(max(rows, numel // rows)))
        for i, d in zip(where, signs, strict=True):
            found[i] = d.reshape(momenta[i].shape)
    return found


def metric(momenta: Sequence[Tensor], d: Sequence[Tensor], bias: float) -> list[Tensor]:
    """P of each, ⟨m/bias, d⟩/‖d‖²: a number on the device, > 0."""
    return [
        torch.sum(m * u).div(u.square().sum().clamp_min(TINY) * bias).add(TINY) for m, u in zip(momenta, d, strict=True)
    ]


class Muon:
    """Orthogonalised momentum for hidden matrices, Adam for the rest.

    Args:
        rest: the form of the others.
        hidden: the parameters to orthogonalise where their group does not say; all matrices if absent.
    """

    optimizer: OptimizerName = "schedule_free_muon"
    preconditioned = True

    def __init__(self, rest: Adam, hidden: Iterable[Tensor] | None = None, beta: float = BETA) -> None:
        self.rest, self.beta = rest, beta
        self._hidden = None if hidden is None else {id(p) for p in hidden}
        self._matrices: set[int] = set()
        self._coming: tuple[int, list[Tensor], list[Tensor]] | None = None  # update, and the m and d that it will have

    def admit(self, group: dict[str, Any]) -> None:
        form, params = group["form"], group["params"]
        if form not in (None, "muon", "adam"):
            raise ValueError(f"expected a group's form 'muon' or 'adam' under form 'muon', got {form!r}")
        if form == "adam":
            return
        if form == "muon" and (others := [tuple(p.shape) for p in params if not is_matrix(p)]):
            raise ValueError(
                f"expected matrices in a group of form 'muon', got shape {others[0]}; give it a group of form 'adam'"
            )
        found = [p for p in params if form == "muon" or (self._is_hidden(p) and is_matrix(p))]
        for p in found:
            if hasattr(p, "to_local"):
                raise ValueError(
                    f"expected whole matrices for form 'muon', got one of shape {tuple(p.shape)} that is sharded over "
                    "ranks (FSDP, tensor parallel); train with DDP, or give its group form='adam', or DCAO form='adam'"
                )
        self._matrices |= {id(p) for p in found}

    def _is_hidden(self, p: Tensor) -> bool:
        return self._hidden is None or id(p) in self._hidden

    def name_of(self, parameter: Tensor) -> str:
        return "momentum_buffer" if id(parameter) in self._matrices else self.rest.name_of(parameter)

    def begin(self, parameter: Tensor, gradient: Tensor, past: int) -> Tensor:
        if id(parameter) in self._matrices:
            return gradient * (1.0 - self.beta**past)
        return self.rest.begin(parameter, gradient, past)

    def take(self, params: list[Tensor], moments: list[Any], gradients: list[Tensor], updates: int) -> None:
        inner, outer = self._split(params)
        if outer:
            self.rest.take(_at(params, outer), _at(moments, outer), _at(gradients, outer), updates)
        m, d = self._seen(updates, inner) or self._look(_at(moments, inner), _at(gradients, inner))
        if inner:
            torch._foreach_copy_(_at(moments, inner), m)
        self._coming = updates, m, d

    def update(self, params: list[Tensor], moments: list[Any], gradients: list[Tensor], updates: int) -> Update:
        inner, outer = self._split(params)
        divided: Tensors = ()
        if outer:
            rest = self.rest.update(_at(params, outer), _at(moments, outer), _at(gradients, outer), updates)
            divided = torch._foreach_mul(torch._foreach_div(rest.over, rest.under or ()), rest.factor)
        _, d = self._seen(updates, inner) or (None, directions(_at(moments, inner)))
        self._coming = None
        return Update(_merged(len(params), (inner, d), (outer, divided)))

    def preconditioner(self, parameter: Tensor, moment: Tensor, gradient: Tensor, updates: int) -> Tensor:
        if id(parameter) not in self._matrices:
            return self.rest.preconditioner(parameter, moment, gradient, updates)
        (P,) = metric([moment], directions([moment]), 1.0 - self.beta**updates)
        return P.to(gradient).expand_as(gradient)

    def on_sketch(
        self, meter: PathMeter, params: list[Tensor], moments: list[Any], gradients: list[Tensor], updates: int
    ) -> tuple[Tensor, Tensor]:
        inner, outer = self._split(params)
        m, d = self._look(_at(moments, inner), _at(gradients, inner))
        self._coming = updates, m, d
        P = metric(m, d, 1.0 - self.beta**updates)
        scaled = [u * number for u, number in zip(d, P, strict=True)]
        over = _merged(len(params), (inner, scaled), (outer, _at(gradients, outer)))
        v = _merged(len(params), (outer, _at(moments, outer)))
        found, rest = self.rest.on_sketch(meter, params, v, over, updates)
        numbers = meter.spread(_merged(len(params), (inner, P)))
        return found, torch.where(numbers > 0, numbers, rest)

    @torch.no_grad()
    def _look(self, momenta: list[Tensor], gradients: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """m and d of the coming update; nothing is taken yet, for a step may be left out."""
        wide = [g if g.dtype == m.dtype else g.to(m.dtype) for g, m in zip(gradients, momenta, strict=True)]
        m = list(torch._foreach_lerp(momenta, wide, 1.0 - self.beta)) if momenta else []
        return m, directions(m)

    def _seen(self, updates: int, inner: list[int]) -> tuple[list[Tensor], list[Tensor]] | None:
        """m and d of this update, if it was looked at."""
        coming = self._coming
        return coming[1:] if coming is not None and coming[0] == updates and len(coming[1]) == len(inner) else None

    def _split(self, params: list[Tensor]) -> tuple[list[int], list[int]]:
        """Where the matrices are, and where the others are."""
        inner = [i for i, p in enumerate(params) if id(p) in self._matrices]
        return inner, [i for i, p in enumerate(params) if id(p) not in self._matrices]


def _at(values: Sequence[Any], where: list[int]) -> list[Any]:
    return [values[i] for i in where]


def _merged(size: int, *parts: tuple[list[int], Sequence[Any]]) -> list[Any]:
    """Back in the parameters' order; None where no part says."""
    found: list[Any] = [None] * size
    for where, values in parts:
        for i, value in zip(where, values, strict=True):
            found[i] = value
    return found
