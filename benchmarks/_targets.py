"""The figures that the suite has to reach, each with the benchmark that answers it.

A benchmark asks ``TARGETS[key].judge(value, shown)`` and puts the verdict into its table; the page of results lists all
targets, those that nobody has measured too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class Target:
    """One figure to reach.

    Attributes
    ----------
    key
        Its name in the saved results.
    what, reference, reach
        In words: what is measured, what it is compared with, what is to be reached.
    benchmark
        Name of the benchmark that measures it.
    limit, sense
        The figure is reached if it is "at most", "below" or "at least" the limit; None where it is only reported.
    """

    key: str
    what: str
    reference: str
    reach: str
    benchmark: str
    limit: float | None
    sense: Literal["at most", "below", "at least"] = "at most"

    def judge(self, value: float | None, shown: str, *, short_of: str = "") -> Verdict:
        """What was measured, and whether that reaches the target.

        Parameters
        ----------
        value
            The figure that counts; None where there is none, which is a miss.
        shown
            The same in words, with what a reader should know beside it.
        short_of
            In what the run asked for less than the target does ("20 draws"); it then proves nothing. Empty if it did
            not.
        """
        if short_of or self.limit is None:
            return Verdict(self.key, shown, value, None, short_of)
        if value is None:
            return Verdict(self.key, shown, None, False)
        reached = {"at most": value <= self.limit, "below": value < self.limit, "at least": value >= self.limit}
        return Verdict(self.key, shown, value, bool(reached[self.sense]))


@dataclass(frozen=True)
class Verdict:
    """A target's measured figure; `reached` is None where it was only reported, or the run fell short of something."""

    key: str
    shown: str
    value: float | None
    reached: bool | None
    short_of: str = ""

    @property
    def word(self) -> str:
        if self.short_of:
            return f"open (the run is short of: {self.short_of})"
        return "reported" if self.reached is None else "reached" if self.reached else "MISSED"

    def sentence(self) -> str:
        target = TARGETS[self.key]
        return f"Target, {target.what}: {target.reach}. Measured: {self.shown}. {self.word[0].upper()}{self.word[1:]}."

    def to_dict(self) -> dict[str, Any]:
        return {
            "key": self.key,
            "shown": self.shown,
            "value": self.value,
            "reached": self.reached,
            "short_of": self.short_of,
        }

    @classmethod
    def from_dict(cls, saved: Mapping[str, Any]) -> Verdict:
        return cls(saved["key"], saved["shown"], saved["value"], saved["reached"], saved.get("short_of", ""))


_PUBLISHED = "SkipPipe's default instance as published"
_SHIPPED = "the instance of SkipPipe's shipped schedule"
_ITS_SEARCH = "its search: 79.82 s after 25 minutes, 79.89 s without collision awareness; 165.39 s full pipeline"
_ITS_SCHEDULE = "33.31 s collision aware, 35.43 s not, 48.92 s random, 79.94 s full pipeline"
_FULL = "DT-FM full pipeline"
_BEST = "the best of DT-FM full, GPipe, 1F1B, interleaved 1F1B and ZB-H1"

_ALL = (
    Target(
        "published-5s",
        f"{_PUBLISHED}, its own placement, every seed",
        _ITS_SEARCH,
        "at most 76.4 s within 5 s of planning",
        "reference_instances",
        76.4,
    ),
    Target(
        "published-joint",
        f"{_PUBLISHED}, placement and routes together",
        "76.4 s with its own placement",
        "clearly below 76.4 s (read as 5 %: at most 72.58 s) within 60 s",
        "reference_instances",
        72.58,
    ),
    Target(
        "published-gap",
        f"proven gap, {_PUBLISHED}, its own placement",
        "none given",
        "10 % or less",
        "reference_instances",
        10.0,
    ),
    Target(
        "shipped-5s",
        f"{_SHIPPED}, every seed",
        _ITS_SCHEDULE,
        "below 33.31 s within 5 s of planning",
        "reference_instances",
        33.31,
        "below",
    ),
    Target(
        "shipped-60s",
        f"{_SHIPPED}, more time",
        _ITS_SCHEDULE,
        "the least within 60 s",
        "reference_instances",
        None,
    ),
    Target("shipped-gap", f"proven gap, {_SHIPPED}", "none given", "10 % or less", "reference_instances", 10.0),
    Target(
        "draws-skip",
        "corrected network, 20 draws of regions, a third skipped",
        _FULL,
        "median iteration time at least 45 % lower",
        "random_draws",
        45.0,
        "at least",
    ),
    Target(
        "draws-equal",
        "corrected network, 20 draws of regions, nothing skipped",
        _BEST,
        "median iteration time at least 15 % lower",
        "random_draws",
        15.0,
        "at least",
    ),
    Target(
        "unequal-skip",
        "20 draws of regions and of speeds 1x to 4x, a third skipped",
        _FULL,
        "median iteration time at least 45 % lower",
        "random_draws",
        45.0,
        "at least",
    ),
    Target(
        "unequal-equal",
        "20 draws of regions and of speeds 1x to 4x, nothing skipped",
        _BEST,
        "median iteration time at least 15 % lower",
        "random_draws",
        15.0,
        "at least",
    ),
    *(
        target
        for nodes, stages, seconds in ((200, 10, 30), (1000, 16, 120))
        for target in (
            Target(
                f"large-{nodes}-time",
                f"{nodes:,} nodes, {stages} stages, a third skipped: a checked plan",
                "none",
                f"planned and checked within {seconds} s",
                "large_networks",
                float(seconds),
            ),
            Target(
                f"large-{nodes}",
                f"{nodes:,} nodes, {stages} stages, a third skipped: iteration time",
                f"{_FULL}, its placement given the same time",
                "at least 35 % lower",
                "large_networks",
                35.0,
                "at least",
            ),
            Target(
                f"large-{nodes}-memory",
                f"{nodes:,} nodes, {stages} stages: peak memory",
                "none",
                "under 2 GB",
                "large_networks",
                2000.0,
                "below",
            ),
        )
    ),
    Target(
        "kernel-times",
        "event kernel, seconds a call",
        "SkipPipe's simulator",
        "at least 1,000 times faster",
        "event_kernel",
        1000.0,
        "at least",
    ),
    Target(
        "kernel-rate",
        "event kernel, task events a second",
        "none",
        "at least 1,000,000",
        "event_kernel",
        1e6,
        "at least",
    ),
    Target(
        "small-equal",
        "small instances (6 to 9 nodes) where conflict search misses the optimum",
        "CP-SAT optimum",
        "none",
        "small_instances",
        0.0,
    ),
    Target(
        "checker",
        "plans broken in one rule that the checker passes, or rejects without naming the rule",
        "none",
        "0 of 1,000",
        "checker",
        0.0,
    ),
    Target(
        "failure-complete",
        "a node dies in mid-iteration: microbatches that the re-planned iteration loses",
        "none",
        "0",
        "node_failure",
        0.0,
    ),
    Target(
        "failure-lost",
        "a node dies in mid-iteration: time lost, as a share of what a restart loses",
        "restart of the iteration",
        "at most 50 %",
        "node_failure",
        50.0,
    ),
    Target("help", "`pathloom --help`", "none", "below 0.5 s", "start_up", 0.5, "below"),
    Target(
        "main-job", "the main job, example gcp12-llama-500m, 2 cores", "none", "under 60 s", "start_up", 60.0, "below"
    ),
    Target(
        "run-predicted",
        "four plans really run by six processes: measured iteration time against the simulated one",
        "none",
        "within 10 %, order of the plans the same",
        "plan_and_run",
        10.0,
    ),
    Target(
        "run-transports",
        "the same plans over a network of namespaces against links held back by the receiver",
        "none",
        "within 5 %",
        "plan_and_run",
        5.0,
    ),
    Target(
        "run-gain",
        "a third of the stages skipped along planned paths, really run: iteration time",
        "1F1B full pipeline on the same emulated network",
        "at least 45 % shorter",
        "plan_and_run",
        45.0,
        "at least",
    ),
    Target(
        "pipelining-peer",
        "plain 1F1B, tokens a second, the worst of two sizes and two numbers of processes",
        "torch.distributed.pipelining's Schedule1F1B on gloo",
        "at least as many",
        "pipelining_peer",
        1.0,
        "at least",
    ),
    Target(
        "model-speed-cpu",
        "training the decoder, tokens a second, float32 on one CPU thread, the worst row",
        "transformers' LlamaForCausalLM",
        "at least as many",
        "model_speed",
        1.0,
        "at least",
    ),
    Target(
        "model-speed-cuda",
        "training the decoder, tokens a second, a 125M-class model in bfloat16 on a GPU",
        "transformers' LlamaForCausalLM",
        "at least as many",
        "model_speed",
        1.0,
        "at least",
    ),
    Target(
        "convergence-tokens",
        "validation loss with a third of the stages skipped on planned paths, at equal tokens, the worse text",
        "the full pipeline",
        "at most 3 % higher",
        "convergence",
        3.0,
    ),
    Target(
        "convergence-time",
        "the same at equal emulated wall time",
        "the full pipeline",
        "lower",
        "convergence",
        0.0,
        "below",
    ),
    Target(
        "missing-layers",
        "rise of perplexity with half of the stages removed, as a share of the full-trained model's, the worse text",
        "the full-trained model",
        "at least 3 times smaller (at most 33.3 %)",
        "convergence",
        33.34,
    ),
    Target(
        "live-faults-go-on",
        "kill -9 or a hang at random moments: runs that do not go on to their last step",
        "none",
        "0",
        "live_faults",
        0.0,
    ),
    Target(
        "live-faults-steps",
        "the same: optimizer steps lost beyond the last checkpoint, or at all where a replica lives",
        "none",
        "0",
        "live_faults",
        0.0,
    ),
    Target(
        "live-faults-recovery",
        "kill -9 of a node with a replica: extra seconds of the step in which it died",
        "none",
        "reported",
        "live_faults",
        None,
    ),
    Target(
        "live-faults-simulated",
        "the same: measured against simulated lost time of the iteration, seconds apart",
        "the fault simulator",
        "reported",
        "live_faults",
        None,
    ),
    Target(
        "rex-linear",
        "REX on MNIST-1D, SGD with momentum, budgets up to 25 %: least gain over linear, points",
        "linear",
        "below linear in every row",
        "rex_budgets",
        0.0,
        "at least",
    ),
    Target(
        "rex-ten",
        "REX on MNIST-1D, SGD with momentum, budget 10 %: gain over linear, points",
        "linear",
        "at least 1 point",
        "rex_budgets",
        1.0,
        "at least",
    ),
    Target(
        "rex-rank",
        "REX on MNIST-1D: mean rank over budgets and optimizers, less that of the best of torch's schedules",
        "torch.optim.lr_scheduler",
        "ahead of all",
        "rex_budgets",
        0.0,
        "below",
    ),
    Target(
        "rex-recommend",
        "`recommend` on data sets it has not seen: most points behind the best schedule",
        "the best schedule in hindsight",
        "at most 0.5 points",
        "rex_budgets",
        0.5,
    ),
    Target(
        "refine-bound",
        "refined schedule's closed form: last-iterate bound above its numerical minimum, percent",
        "L-BFGS-B",
        "at most 5 %",
        "refined_schedules",
        5.0,
    ),
    Target(
        "refine-rank",
        "logistic suite: mean rank of linear above cosine's",
        "cosine",
        "at most 0.3",
        "refined_schedules",
        0.3,
    ),
    Target(
        "refine-constant",
        "logistic suite: settings in which linear ends below constant",
        "constant",
        "12 of 12",
        "refined_schedules",
        12.0,
        "at least",
    ),
    Target(
        "refine-step",
        "logistic suite: settings in which linear ends below step",
        "step",
        "at least 11 of 12",
        "refined_schedules",
        11.0,
        "at least",
    ),
    Target(
        "refine-inverse-time",
        "logistic suite: settings in which linear ends below 1/t",
        "1/t",
        "at least 11 of 12",
        "refined_schedules",
        11.0,
        "at least",
    ),
    Target(
        "refine-guard",
        "logistic suite: loss of the guarded refined schedule above linear's, percent, worst setting",
        "linear",
        "at most 2 %",
        "refined_schedules",
        2.0,
    ),
    Target(
        "refine-separable",
        "separable data: loss of the guarded refined schedule above linear's, percent, worst setting",
        "linear",
        "at most 5 %",
        "refined_schedules",
        5.0,
    ),
    Target(
        "refine-speed",
        "a schedule of a million steps, CPU milliseconds, the slowest kind",
        "none",
        "at most 50 ms",
        "refined_schedules",
        50.0,
    ),
    Target(
        "text-best",
        "TinyShakespeare: linear or refined above the best schedule, nats",
        "eight schedules",
        "at most 0.01 nats",
        "text_schedules",
        0.01,
    ),
    Target(
        "text-cosine",
        "TinyShakespeare: linear or refined against torch's cosine, nats",
        "CosineAnnealingLR",
        "below",
        "text_schedules",
        0.0,
        "below",
    ),
    Target(
        "shop-dispatch-seconds",
        "dispatching, 218 instances x 4 rules, seconds in all",
        "job-shop-lib",
        "below 2 s",
        "dispatching_rules",
        2.0,
        "below",
    ),
    Target(
        "shop-dispatch-ratio",
        "dispatching, the same, times faster than the peer",
        "job-shop-lib",
        "at least 100 times",
        "dispatching_rules",
        100.0,
        "at least",
    ),
    Target(
        "shop-dispatch-table",
        "non-delay rules: largest difference from the published table of gaps, points",
        "the rules of the same name, measured elsewhere",
        "at most 0.5 points",
        "dispatching_rules",
        0.5,
    ),
    Target(
        "shop-ta-gap",
        "ta01-50, 30 s on 2 cores: mean gap to the best known, percent",
        "CP-SAT through PyJobShop, 30 s, 2 workers",
        "at most 2.0 %",
        "job_shops",
        2.0,
    ),
    Target(
        "shop-ta-ahead",
        "ta31-50: mean gap of the peer less ours, points",
        "CP-SAT through PyJobShop, 30 s, 2 workers",
        "at least 3 points",
        "job_shops",
        3.0,
        "at least",
    ),
    Target(
        "shop-ta-proofs",
        "ta01-10: instances that the peer proves and we do not",
        "CP-SAT through PyJobShop, 30 s, 2 workers",
        "none",
        "job_shops",
        0.0,
    ),
    Target(
        "shop-large-ta",
        "ta71-80 (100x20), 30 s: our mean gap over the peer's",
        "CP-SAT through PyJobShop, 30 s, 2 workers",
        "at most half",
        "job_shops",
        0.5,
    ),
    Target(
        "shop-large-dmu",
        "dmu01-40, 30 s: our mean gap over the peer's",
        "CP-SAT through PyJobShop, 30 s, 2 workers",
        "at most half",
        "job_shops",
        0.5,
    ),
    Target(
        "shop-large-swv",
        "swv01-20, 30 s: our mean gap over the peer's",
        "CP-SAT through PyJobShop, 30 s, 2 workers",
        "at most half",
        "job_shops",
        0.5,
    ),
    Target(
        "shop-thousand",
        "1,000 jobs x 10 machines, 10 s: the peer's makespan over ours, worst draw",
        "CP-SAT through PyJobShop, 60 s, 2 workers",
        "better: above 1",
        "thousand_jobs",
        1.0001,
        "at least",
    ),
    Target(
        "shop-flexible",
        "flexible shops (Brandimarte, Hurink), 30 s: our mean gap less the peer's, points",
        "CP-SAT through PyJobShop, 30 s, 2 workers",
        "at most 0",
        "flexible_shops",
        0.0,
    ),
    Target(
        "shop-flexible-large",
        "flexible shops of 200 operations or more, 30 s: our mean gap less the peer's, points",
        "CP-SAT through PyJobShop, 30 s, 2 workers",
        "below 0",
        "flexible_shops",
        0.0,
        "below",
    ),
    Target(
        "shop-j60",
        "projects j60, 30 s: our mean gap less the peer's, points",
        "CP-SAT through PyJobShop, 30 s, 2 workers",
        "at most 0",
        "projects",
        0.0,
    ),
    Target(
        "shop-j120",
        "projects j120, 30 s: our mean gap less the peer's, points",
        "CP-SAT through PyJobShop, 30 s, 2 workers",
        "at most 0",
        "projects",
        0.0,
    ),
    Target(
        "shop-mm30",
        "multi-mode projects j30, 30 s: our mean gap less the peer's, points",
        "CP-SAT through PyJobShop, 30 s, 2 workers",
        "at most 0",
        "projects",
        0.0,
    ),
    Target(
        "shop-blocking",
        "blocking with swap, la01-40, 20 s: mean gap to the listed values, percent",
        "CP-SAT through PyJobShop, 20 s, 2 workers",
        "at most 5 %",
        "blocking_shops",
        5.0,
    ),
    Target(
        "shop-blocking-closed",
        "blocking with swap: closed values of la01-05 and la16 not reached",
        "listed optima",
        "none",
        "blocking_shops",
        0.0,
    ),
    Target(
        "shop-learned-greedy",
        "learned dispatcher, one pass, ta01-50: mean gap less the best rule's, points, worst set",
        "SPT, MWKR, MOR, FIFO",
        "at most 0",
        "learned_dispatcher",
        0.0,
    ),
    Target(
        "shop-learned-best",
        "learned dispatcher, best of 32, ta01-50: mean gap less the best rule's, points, worst set",
        "SPT, MWKR, MOR, FIFO",
        "at most -5",
        "learned_dispatcher",
        -5.0,
    ),
    Target(
        "shop-learned-large-greedy",
        "learned dispatcher, one pass, ta71-80 (100x20): mean gap less the best rule's, points",
        "SPT, MWKR, MOR, FIFO",
        "at most 0",
        "learned_dispatcher",
        0.0,
    ),
    Target(
        "shop-learned-large-best",
        "learned dispatcher, best of 32, ta71-80 (100x20): mean gap less the best rule's, points",
        "SPT, MWKR, MOR, FIFO",
        "at most -5",
        "learned_dispatcher",
        -5.0,
    ),
    Target(
        "shop-learned-search",
        "5 s of our local search, ta01-50, ta71-80: mean gap from the learned schedule less that from a rule, points",
        "the same search from the best rule's schedule",
        "at most 0",
        "learned_dispatcher",
        0.0,
    ),
    Target(
        "shop-learned-flexible-greedy",
        "learned dispatcher, one pass, flexible shops: mean gap less the best rule's, points, worst set",
        "SPT, MWKR, MOR, FIFO",
        "reported as it is",
        "learned_dispatcher",
        None,
    ),
    Target(
        "shop-learned-flexible-best",
        "learned dispatcher, best of 32, flexible shops: mean gap less the best rule's, points, worst set",
        "SPT, MWKR, MOR, FIFO",
        "reported as it is",
        "learned_dispatcher",
        None,
    ),
    Target(
        "schedule-checker",
        "schedules broken in one constraint that the checker passes, or rejects without naming it",
        "none",
        "0 of 1,000 for every kind",
        "schedule_checker",
        0.0,
    ),
    Target(
        "floor-equal",
        "blocking shop floor, undisturbed, given orders: runs whose starts differ from the static evaluator's",
        "longest paths in the alternative graph",
        "0",
        "shop_floor",
        0,
    ),
    Target(
        "floor-deadlocks",
        "random runs with swaps that stand still",
        "none given",
        "0 of 10,000",
        "shop_floor",
        0,
    ),
    Target(
        "floor-speed",
        "simulator of blocking shops with swaps, la01-40 sizes, events a second in one thread",
        "none given",
        "at least 300,000",
        "shop_floor",
        3e5,
        "at least",
    ),
    Target(
        "interrupted-rules",
        "la01-40 without buffers, breakdown chances 0 to 0.2: mean makespan of the policy against the best rule, "
        "percent, worst chance",
        "best single rule on the same runs",
        "below 0 at every chance",
        "interrupted_shops",
        0.0,
        "below",
    ),
    Target(
        "interrupted-resolve",
        "the same: the policy against a CP-SAT re-solve of 1 s at each breakdown, percent, worst chance",
        "rolling re-solve on the same runs",
        "reported as it is",
        "interrupted_shops",
        None,
    ),
    Target(
        "cells-kinematics",
        "robot cells, move times of axes: largest difference, seconds",
        "closed form of the trapezoid profile",
        "at most 1e-9 s",
        "robot_cells",
        1e-9,
    ),
    Target(
        "cells-cycle",
        "best one-unit cycles of random single-arm cells: largest difference, seconds",
        "enumeration of all orders",
        "at most 1e-6 s",
        "robot_cells",
        1e-6,
    ),
    Target(
        "cells-cycle-rate",
        "the same: simulated rate off the period, percent, worst cell",
        "long-run simulation",
        "at most 0.5 %",
        "robot_cells",
        0.5,
    ),
    Target(
        "cells-simpy-traces",
        "reference cells whose trace differs from an independent model's",
        "SimPy",
        "0",
        "robot_cells",
        0,
    ),
    Target(
        "cells-simpy-ratio",
        "the same: processor time of the model over ours, least",
        "SimPy",
        "at least 20",
        "robot_cells",
        20.0,
        "at least",
    ),
    Target(
        "cells-gain",
        "dual-arm cells, learned control: items an hour above the best rule, percent, worst cell",
        "five rules, plain, looking ahead, with limited work in process",
        "at least 3 %",
        "robot_cells",
        3.0,
        "at least",
    ),
    Target(
        "cells-gain-plain",
        "the same above the best plain rule, percent, worst cell",
        "five rules, waiting or going ahead",
        "at least 3 %",
        "robot_cells",
        3.0,
        "at least",
    ),
    Target(
        "cells-share",
        "the same: share of the bottleneck bound, percent, worst cell",
        "bottleneck bound",
        "at least 95 %",
        "robot_cells",
        95.0,
        "at least",
    ),
    Target(
        "cells-limits",
        "the same: dwell limits broken",
        "none",
        "0",
        "robot_cells",
        0,
    ),
)

TARGETS: dict[str, Target] = {target.key: target for target in _ALL}
