"""Sums over ranks that cannot hang a training run.

Each product is one all-reduce of one flat vector. The ranks measure on a process group of their own, so
that a probe that is given up leaves the training's group as it was.
"""

from __future__ import annotations

import datetime

import torch.distributed as dist
from torch import Tensor, nn


class RanksLostError(RuntimeError):
    """A rank died or stalled in a probe; the group is not used again."""


class Ranks:
    """The ranks of a process group, summing with a limit on the wait."""

    def __init__(self, group: dist.ProcessGroup, timeout: float) -> None:
        """Args: the group to sum over; seconds after which a sum is given up."""
        self.group, self.timeout = group, timeout
        self.lost: str | None = None

    @classmethod
    def like(cls, model: nn.Module, timeout: float) -> Ranks | None:
        """A fresh group over the ranks of a DistributedDataParallel model; None for any other model.

        Collective: every rank of the default group must get here, as for the model itself.
        """
        if not isinstance(model, nn.parallel.DistributedDataParallel):
            return None
        members = dist.get_process_group_ranks(model.process_group)
        limit = datetime.timedelta(seconds=timeout)
        return cls(dist.new_group(members, timeout=limit, backend=dist.get_backend(model.process_group)), timeout)

    @classmethod
    def of_all(cls, timeout: float) -> Ranks:
        """A fresh group over every rank of the job, for a model that each holds whole or a shard of. Collective."""
        limit = datetime.timedelta(seconds=timeout)
        return cls(dist.new_group(timeout=limit, backend=dist.get_backend()), timeout)

    def sum_(self, tensor: Tensor) -> None:
        """Sum over ranks in place.

        Raises:
            RanksLostError: a rank did not come within the limit, or is gone; at once if that happened before.
        """
        if self.lost is not None:
            raise RanksLostError(self.lost)
        try:
            work = dist.all_reduce(tensor, group=self.group, async_op=True)
            if work is not None:
                work.wait(datetime.timedelta(seconds=self.timeout))
        except (RuntimeError, ValueError) as error:
            self.lost = f"expected every rank within {self.timeout:g} s; got: {str(error).splitlines()[0][:160]}"
            raise RanksLostError(self.lost) from error

    @property
    def size(self) -> int:
        return dist.get_world_size(self.group)


def the_firsts(vector: Tensor, *, collective: object) -> Tensor:
    """The first rank's vector on every rank, in place."""
    if isinstance(collective, Ranks):
        if dist.get_rank(collective.group) != 0:
            vector.zero_()
        collective.sum_(vector)
    return vector
