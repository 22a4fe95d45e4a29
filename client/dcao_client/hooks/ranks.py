"""One decision per job: rank 0 talks, every rank applies the same values at the same step."""

from typing import TypeVar

import torch
import torch.distributed as dist

T = TypeVar("T")


def is_talker() -> bool:
    """Whether this process asks the controller: rank 0, or the only one."""
    return not _distributed() or dist.get_rank() == 0


def from_talker(value: T) -> T:
    """Rank 0's value on every rank, bit for bit. A collective: every rank calls it."""
    if not _distributed():
        return value
    box = [value]
    device = torch.device("cuda", torch.cuda.current_device()) if dist.get_backend() == "nccl" else None
    dist.broadcast_object_list(box, src=0, device=device)
    return box[0]


def _distributed() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1
