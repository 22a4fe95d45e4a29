"""The libraries that are compared with the probe, each as its documentation says to use it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
from probe_meter import counted
from probe_workloads import Batch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

# λ₁, γ, products, and whether both were within the bounds given with them (None: no bounds are given).
Found = tuple[float, float, int, bool | None]
Method = Callable[[], Found]


@dataclass
class Case:
    """Weights, a batch, and the truth about them."""

    name: str
    model: nn.Module
    loss: Callable[[nn.Module, Batch], Tensor]
    batch: Batch
    rho: float
    gamma: float
    gradient: float
    memory: int


def pyhessian(case: Case) -> Method:
    """Power iteration with deflation at its default tolerance; it switches the model to eval mode."""
    import sys

    from pyhessian import hessian

    module = sys.modules[hessian.__module__]

    def call() -> Found:
        model = _OneArgument(copy.deepcopy(case.model), case.loss, case.batch[1])
        with counted(module, "hessian_vector_product") as calls, sdpa_kernel(SDPBackend.MATH):
            torch.manual_seed(0)
            solver = hessian(model, lambda out, _: out, data=case.batch, cuda=False)
            values, _ = solver.eigenvalues(top_n=2)
        top = sorted(values, reverse=True)
        return top[0], top[0] - top[1], calls[0], None

    return call


class _OneArgument(nn.Module):
    """A model whose forward is the loss: what libraries that insist on criterion(model(x), y) can be given."""

    def __init__(self, model: nn.Module, loss: Callable[[nn.Module, Batch], Tensor], y: Tensor) -> None:
        super().__init__()
        self.model, self.loss, self.y = model, loss, y

    def forward(self, x: Tensor) -> Tensor:
        return self.loss(self.model, (x, self.y))


def eigenthings(case: Case, **options: object) -> Method:
    """Its Lanczos with as many steps as the proposal, or its defaults."""
    from hessian_eigenthings import HessianOperator, lanczos

    def call() -> Found:
        model = copy.deepcopy(case.model)
        operator = HessianOperator(model, [case.batch], lambda m, b: case.loss(m, b))
        with counted(operator, "matvec") as calls, sdpa_kernel(SDPBackend.MATH):
            found = lanczos(operator, k=2, which="LA", **options)
        top = sorted((float(v) for v in found.eigenvalues), reverse=True)
        return top[0], top[0] - top[1], calls[0], None

    return call


def curvlinops(case: Case) -> Method:
    """Its Hessian operator in SciPy's ARPACK at tolerance 1e-2, its own determinism check switched off."""
    from curvlinops import HessianLinearOperator
    from scipy.sparse.linalg import LinearOperator, eigsh

    def call() -> Found:
        model = _OneArgument(copy.deepcopy(case.model), case.loss, case.batch[1])
        parameters = [p for p in model.parameters() if p.requires_grad]
        with sdpa_kernel(SDPBackend.MATH):
            operator = HessianLinearOperator(
                model, _Mean(), parameters, [case.batch], check_deterministic=False, num_data=len(case.batch[0])
            )
            as_scipy = operator.to_scipy()
            count = [0]

            def product(v: object) -> object:
                count[0] += 1
                return as_scipy @ v

            n = as_scipy.shape[0]
            wrapped = LinearOperator((n, n), matvec=product, dtype=as_scipy.dtype)
            values = eigsh(wrapped, k=2, which="LA", tol=1e-2, return_eigenvectors=False)
        top = sorted((float(v) for v in values), reverse=True)
        return top[0], top[0] - top[1], count[0], None

    return call


class _Mean(nn.MSELoss):
    """Takes the model's output (a loss already) as it is."""

    def forward(self, out: Tensor, _: Tensor) -> Tensor:
        return out
