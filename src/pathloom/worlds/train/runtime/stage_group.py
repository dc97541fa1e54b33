"""Averaging of gradients between the nodes of a stage, through torch.distributed: gloo on CPUs, NCCL on GPUs.

A group belongs to one membership of the run and is made anew when a node is lost. It does not depend on a world group,
which no longer exists once one of its members is dead. The sum goes to a second buffer: when a member dies in the
middle, what a node had summed by itself is still there, and the others sum it again.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist


class StageGroup:
    """The nodes of one stage.

    Parameters
    ----------
    store
        Key-value store that all members reach.
    name
        Different for every group that ever lives in this store.
    rank, size
        This node's position among the members, and their number.
    host
        Address by which the members reach this node.
    forming
        Seconds within which all members must have come; `timeout` if None.
    timeout
        Seconds after which a member that does not answer counts as lost.
    """

    def __init__(
        self,
        store: Any,
        name: str,
        rank: int,
        size: int,
        *,
        host: str,
        timeout: float,
        device: torch.device,
        forming: float | None = None,
    ) -> None:
        self.rank, self.size, self.device = rank, size, device
        self._group: Any = None
        self._sum: torch.Tensor | None = None
        if size == 1:
            return
        prefixed = dist.PrefixStore(name, store)  # type: ignore[attr-defined]
        patience = timedelta(seconds=timeout if forming is None else forming)
        if device.type == "cuda":
            options = dist.ProcessGroupNCCL.Options()
            options._timeout = patience
            self._group = dist.ProcessGroupNCCL(prefixed, rank, size, options)
        else:
            options = dist.ProcessGroupGloo._Options()  # type: ignore[attr-defined]
            options._devices = [dist.ProcessGroupGloo.create_device(hostname=host)]
            options._timeout = patience
            options._threads = 1
            self._group = dist.ProcessGroupGloo(prefixed, rank, size, options)
        self._group._set_default_timeout(timedelta(seconds=timeout))

    def summed(self, own: torch.Tensor) -> torch.Tensor:
        """Sum of the members' tensors, the same bits for all; `own` stays as it is.

        Raises
        ------
        RuntimeError
            If a member is lost.
        """
        if self._group is None:
            return own
        if self._sum is None or self._sum.shape != own.shape:
            self._sum = torch.empty_like(own)
        self._sum.copy_(own)
        self._group.allreduce([self._sum]).wait()
        return self._sum

    def supply(self, tensors: Iterable[torch.Tensor], source: int) -> None:
        """Overwrite the tensors of all members by those of member `source`."""
        if self._group is None:
            return
        options = dist.BroadcastOptions()
        options.rootRank = source
        for tensor in tensors:
            here = tensor if tensor.device == self.device else tensor.to(self.device)
            self._group.broadcast([here], options).wait()
            if here is not tensor:
                tensor.copy_(here)

    def close(self) -> None:
        """Leave the group, whatever state it is in."""
        if self._group is not None:
            self._group.abort()
            self._group = None
