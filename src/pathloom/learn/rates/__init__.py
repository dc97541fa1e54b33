"""Learning rates: profiles, plans that are closed forms of the step, refinement from recorded gradient norms.

Importing this needs NumPy only; `pathloom.learn.rates.torch_scheduler` has the scheduler for torch.
"""

from __future__ import annotations

from pathloom.learn.rates.norms import GradientNormRecord
from pathloom.learn.rates.plan import PAPER_COMBINATIONS, SAMPLING_RATES, RatePlan, plan_named
from pathloom.learn.rates.profile import (
    PROFILES,
    Constant,
    Cosine,
    DelayedLinear,
    Exponential,
    InverseSqrt,
    InverseTime,
    Linear,
    OneCycle,
    Polynomial,
    Profile,
    Rex,
    Step,
    Tabulated,
    WarmupStableDecay,
)
from pathloom.learn.rates.rate_files import RecordedNorms, load_norms, load_rate_plan, save_norms, save_rate_plan
from pathloom.learn.rates.refinement import Refinement, fit_power, refine

__all__ = [
    "PAPER_COMBINATIONS",
    "PROFILES",
    "SAMPLING_RATES",
    "Constant",
    "Cosine",
    "DelayedLinear",
    "Exponential",
    "GradientNormRecord",
    "InverseSqrt",
    "InverseTime",
    "Linear",
    "OneCycle",
    "Polynomial",
    "Profile",
    "RatePlan",
    "RecordedNorms",
    "Refinement",
    "Rex",
    "Step",
    "Tabulated",
    "WarmupStableDecay",
    "fit_power",
    "load_norms",
    "load_rate_plan",
    "plan_named",
    "refine",
    "save_norms",
    "save_rate_plan",
]
