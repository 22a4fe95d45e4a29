"""One decision per job: rank 0 talks, every rank applies the same values at the same step."""

import sys
from typing import Any, TypeVar

T = TypeVar("T")


def is_talker() -> bool:
    """Whether this process asks the controller: rank 0, or the only one."""
    dist = _distributed()
    return dist is None or dist.get_rank() == 0


def from_talker(value: T) -> T:
    """Rank 0's value on every rank, bit for bit. A collective: every rank calls it."""
    dist = _distributed()
    if dist is None:
        return value
    import torch

    box = [value]
    device = torch.device("cuda", torch.cuda.current_device()) if dist.get_backend() == "nccl" else None
    dist.broadcast_object_list(box, src=0, device=device)
    found: T = box[0]
    return found


def _distributed() -> Any:
    """torch's process group of several ranks; None where there is none, which is so where torch was never imported."""
    dist = sys.modules.get("torch.distributed")
    several = dist is not None and dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1
    return dist if several else None
