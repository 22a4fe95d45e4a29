"""A measurement that leaves no trace: the model is borrowed, with everything it could change replaced for the while."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import random
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from dcao_client.spectrum.torch.contents import Contents
from dcao_client.spectrum.torch.generators import own_restored, seed_own
from dcao_client.spectrum.torch.writes import Writes


def unwrap(model: nn.Module) -> nn.Module:
    """The module under DistributedDataParallel, DataParallel and torch.compile wrappers."""
    while True:
        if isinstance(model, nn.parallel.DistributedDataParallel | nn.DataParallel):
            model = model.module
        elif (inner := dict(model.named_children()).get("_orig_mod")) is not None:
            model = inner
        else:
            return model


def trainable(model: nn.Module) -> list[nn.Parameter]:
    """Parameters that require a gradient, each once however often it is tied, in ``parameters()`` order."""
    return [p for p in model.parameters() if p.requires_grad]


def moved(
    model: nn.Module, optimizer: torch.optim.Optimizer | None, others: Sequence[nn.Module] = ()
) -> list[nn.Parameter]:
    """Those that the optimizer moves: trainable and in one of its groups now; all trainable ones without an optimizer.

    Also all where it knows none of them: it then moves copies of its own (flattened, or in higher precision). A group
    whose rate is zero does not move, while another's is not (all are before a warm-up's first step).
    """
    every = trainable(model)
    if optimizer is None:
        return every
    groups = [g for g in optimizer.param_groups if float(g.get("lr", 1.0)) != 0.0] or optimizer.param_groups
    known = {id(p) for group in groups for p in group["params"]}
    # Also of modules that the loss holds: a head or a centre of its own.
    found = {id(p): p for p in (*every, *(p for other in others for p in trainable(other))) if id(p) in known}
    return list(found.values()) or every


def names_of(model: nn.Module, parameters: Sequence[nn.Parameter], others: Sequence[nn.Module] = ()) -> tuple[str, ...]:
    """The names of these parameters, where they are not all of the model's; none where they are."""
    wanted, inside = {id(p) for p in parameters}, list(model.named_parameters())
    if wanted == {id(p) for _, p in inside}:
        return ()
    known = {id(p) for _, p in inside}
    outside = [(f"loss.{name}", p) for other in others for name, p in other.named_parameters() if id(p) not in known]
    return tuple(dict.fromkeys(name for name, p in (*inside, *outside) if id(p) in wanted))


def is_lazy(model: nn.Module) -> bool:
    """Whether a parameter or buffer gets its shape from a first forward that has not been yet."""
    return any(nn.parameter.is_lazy(t) for t in (*model.parameters(), *model.buffers()))


@contextlib.contextmanager
def isolated(
    model: nn.Module,
    *,
    aliases: bool = True,
    parameters: Sequence[nn.Parameter] | None = None,
    generators: Sequence[Any] = (),
    others: Sequence[nn.Module] = (),
    writes: Writes | None = None,
) -> Iterator[list[nn.Parameter]]:
    """Borrow ``model`` and ``others`` that the loss uses: yields aliases of ``parameters`` (its trainable ones).

    Aliases share the weights' storage but have no gradient, no tensor hooks and no accumulator, so nothing
    that differentiates them can touch the real ones. Buffers are clones (batch norm may update them).
    Backward hooks are set aside; forward hooks stay, because weight norm and its like compute with them.
    Python attributes of every module, the generators of ``torch``, ``random`` and ``numpy`` and the
    autocast state come back on exit, also by an exception. Attention uses the math kernel (the fused ones
    have no second derivative), compiled code runs eagerly, train and eval flags stay what they are. Trainable
    parameters that are not asked for are constants inside the block; so are gradients of embeddings dense. Weights
    that a forward pass writes are copies (``writes``).
    """
    wanted = trainable(model) if parameters is None else list(parameters)
    model = nn.ModuleList([model, *others]) if others else model
    writes = Writes() if writes is None else writes
    with contextlib.ExitStack() as stack:
        stack.enter_context(_generators_restored())
        stack.enter_context(own_restored(generators))
        stack.enter_context(_modules_restored(model))
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        for device_type in {"cpu", *(p.device.type for p in model.parameters())}:
            if torch.amp.is_autocast_available(device_type):
                stack.enter_context(torch.autocast(device_type, enabled=False))
        stack.enter_context(sdpa_kernel(SDPBackend.MATH))
        # Nothing was compiled while dynamo is not loaded, and loading it takes seconds.
        if "torch._dynamo" in sys.modules and hasattr(torch.compiler, "set_stance"):
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        recurrent = any(isinstance(m, nn.RNNBase) for m in model.modules())
        if recurrent and torch.backends.cudnn.is_available():  # type: ignore[no-untyped-call]
            stack.enter_context(torch.backends.cudnn.flags(enabled=False))
        if not aliases:
            stack.enter_context(_held_constant(model, wanted))
            _swap_in_aliases(model, {})
            yield wanted
            return
        copied = writes.copies(list(model.parameters()))
        pairs = _aliases(model, wanted, writes, copied=copied)
        _swap_in_aliases(model, {id(real): alias for real, alias in pairs})
        yield [alias for _, alias in pairs[: len(wanted)]]
        if copied:
            writes.saw(pairs)


def freeze_randomness(seed: int, own: Sequence[Any] = ()) -> None:
    """Seed every global generator and the model's own; only inside ``isolated``, where they are given back afterwards.

    One seed before each forward makes dropout and stochastic depth one fixed function, without which no two
    products are of the same operator (62 % apart at dropout 0.2). ``torch.manual_seed`` is not used: a device that is
    not in use yet would remember the seed until it is, and start the training's own draws from it.
    """
    torch.default_generator.manual_seed(seed)
    for seed_all, _, _ in _accelerators():
        seed_all(seed)
    random.seed(seed)
    np.random.seed(seed % 2**32)
    seed_own(own, seed)


def _accelerators() -> list[tuple[Callable[[int], None], Callable[[], Any], Callable[[Any], None]]]:
    """How to seed, read and write the generators of every kind of device in use."""
    kinds = [m for m in (torch.cuda, torch.xpu) if m.is_initialized()]
    found = [(m.manual_seed_all, m.get_rng_state_all, m.set_rng_state_all) for m in kinds]
    if torch.backends.mps.is_available():
        found.append((torch.mps.manual_seed, torch.mps.get_rng_state, torch.mps.set_rng_state))
    return found


@contextlib.contextmanager
def _generators_restored() -> Iterator[None]:
    python, legacy, here = random.getstate(), np.random.get_state(), torch.default_generator.get_state()
    devices = [(write, read()) for _, read, write in _accelerators()]
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(legacy)
        torch.default_generator.set_state(here)
        for write, state in devices:
            write(state)


@contextlib.contextmanager
def _modules_restored(model: nn.Module) -> Iterator[None]:
    """Give every module's attributes back, and the contents of its own containers (hooks, registries, caches)."""
    was_autocast = torch.is_autocast_enabled() or torch.is_autocast_enabled("cpu")
    modules = list(model.modules())
    attributes = [dict(module.__dict__) for module in modules]
    contents = Contents(value for saved in attributes for value in saved.values())
    try:
        yield
    finally:
        for module, saved in zip(modules, attributes, strict=True):
            module.__dict__.clear()
            module.__dict__.update(saved)
        contents.restore()
        if was_autocast:
            # An autocast region around the call may have cached casts of our aliases, graph and all.
            torch.clear_autocast_cache()


def _weight_norm(g: Tensor, v: Tensor, *, dim: int) -> Tensor:
    """g·v/‖v‖ in plain operations: torch's fused one has a wrong second derivative (an unsymmetric "Hessian")."""
    weight: Tensor = v * (g / torch.norm_except_dim(v, 2, dim))
    return weight


@contextlib.contextmanager
def _held_constant(model: nn.Module, wanted: Sequence[nn.Parameter]) -> Iterator[None]:
    """Real parameters that are not wanted need no gradient for the while (sharded models have no aliases)."""
    ids = {id(p) for p in wanted}
    others = [p for p in trainable(model) if id(p) not in ids]
    for parameter in others:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in others:
            parameter.requires_grad_(True)


def _aliases(
    model: nn.Module, wanted: Sequence[nn.Parameter], writes: Writes, *, copied: bool
) -> list[tuple[nn.Parameter, nn.Parameter]]:
    """Pairs of a real parameter and what stands in for it: first those wanted, then constants.

    Frozen ones stay themselves unless they are copied, and those of a class of their own (quantised weights) always.
    """
    known = {id(p) for p in wanted}
    constants = [p for p in model.parameters() if id(p) not in known]
    constants = [p for p in constants if p.requires_grad or (copied and type(p) is nn.Parameter)]
    made = [(p, writes.alias(p, requires_grad=True, copied=copied)) for p in wanted]
    return made + [(p, writes.alias(p, requires_grad=False, copied=copied)) for p in constants]


def _swap_in_aliases(model: nn.Module, instead: Mapping[int, nn.Parameter]) -> None:
    """Replace parameters by aliases and buffers by clones in every module; ``_modules_restored`` undoes it.

    With no aliases the real parameters stay (sharded models communicate only those).
    """
    clones: dict[int, Tensor] = {}
    for module in model.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None and id(parameter) in instead:
                module._parameters[name] = instead[id(parameter)]
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = clones.setdefault(id(buffer), buffer.detach().clone())
        module.__dict__["_backward_hooks"] = type(module._backward_hooks)()
        module.__dict__["_backward_pre_hooks"] = type(module._backward_pre_hooks)()
        if isinstance(module, nn.RNNBase):
            # Recurrent layers keep a second list of their weights and use that one.
            module._flat_weights = [getattr(module, name, None) for name in module._flat_weights_names]
        if isinstance(module, nn.Embedding | nn.EmbeddingBag):
            module.sparse = False  # the same gradient, which then has a second derivative
        if type(module).__name__ == "_WeightNorm":
            module.__dict__["forward"] = functools.partial(_weight_norm, dim=getattr(module, "dim", 0))


def mode_of(model: nn.Module) -> str:
    """Train or eval mode of every module, in a few letters."""
    modes = "".join("t" if module.training else "e" for module in model.modules())
    return hashlib.sha256(modes.encode()).hexdigest() if len(set(modes)) > 1 else modes[0]
