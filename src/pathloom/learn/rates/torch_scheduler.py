"""A `RatePlan` as a learning-rate scheduler of torch.

The chained schedulers of torch multiply the current rate at every step, so that resuming and changing the budget
depend on the history. This one has no state beside the number of the step: the rate is ``base rate *
plan.factor(step)``, always.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from pathloom.learn.rates.plan import RatePlan


class RateScheduler(LRScheduler):
    """Sets the rate of every parameter group to its base rate times the plan's factor of the current step.

    Parameters
    ----------
    optimizer
        Its groups may have different base rates (``lr`` when the scheduler is made, kept by torch as ``initial_lr``).
    plan
        Factor at every step.
    last_epoch
        The step before the current one, as everywhere in torch: -1 for a new run; to go on with step k, ``k - 1`` and
        an optimizer whose groups have ``initial_lr``.
    """

    def __init__(self, optimizer: Optimizer, plan: RatePlan, last_epoch: int = -1) -> None:
        self.plan = plan
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float | torch.Tensor]:
        """Rates of the current step `last_epoch`, one a parameter group."""
        factor = self.plan.factor(self.last_epoch)
        return [base * factor for base in self.base_lrs]

    # The name by which torch looks for it when ``step(epoch)`` jumps to a step.
    _get_closed_form_lr = get_lr

    def extend(self, new_steps: int) -> None:
        """Change the budget to `new_steps` from the current step on (more or fewer than before), and set its rates now.

        To be called between ``scheduler.step()`` and the next ``optimizer.step()``, as `RatePlan.with_steps` at step
        `last_epoch`.

        Raises
        ------
        ValueError
            If fewer steps than have been done are given.
        """
        self.plan = self.plan.with_steps(new_steps, at=self.last_epoch)
        self._set_rates()

    def state_dict(self) -> dict[str, Any]:
        """Step, base rates and plan as plain values, which ``torch.load(weights_only=True)`` accepts."""
        state = {key: value for key, value in super().state_dict().items() if key != "plan"}
        return state | {"plan": self.plan.to_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over a saved state, the plan with it, and set the rates of its step in the optimizer."""
        state = dict(state_dict)
        plan = RatePlan.from_dict(state.pop("plan"))
        super().load_state_dict(state)
        self.plan = plan
        self._set_rates()

    def _set_rates(self) -> None:
        for group, rate in zip(self.optimizer.param_groups, self.get_lr(), strict=True):
            if isinstance(group["lr"], torch.Tensor):  # captured in a graph: the tensor must stay the same object
                group["lr"].fill_(float(rate))
            else:
                group["lr"] = rate
        self._last_lr = [
            group["lr"].clone() if isinstance(group["lr"], torch.Tensor) else group["lr"]
            for group in self.optimizer.param_groups
        ]
