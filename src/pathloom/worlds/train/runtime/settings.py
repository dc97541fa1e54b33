"""Settings of a training run: what is trained on what, how, and how closely the plan's times are imitated."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from pathloom.data.input_model import InputModel, measure, ratio, whole

Seconds = Annotated[float, measure("time", above=0, most=1e6)]


class RunSettings(InputModel):
    """Settings of a run; a YAML file may give them, and options of the command line override it.

    Attributes
    ----------
    data
        Folder of a token data set (``pathloom data tokenize``).
    steps
        Optimizer steps in all, those before a resume included.
    seed
        Seed of the initial weights and of the order of the data.
    learning_rate, schedule, warmup, floor
        Base rate, name of a schedule or a file of one, warm-up steps, and least factor on the base rate.
    weight_decay, beta1, beta2, epsilon, clip
        AdamW, and the largest gradient norm over the whole model (0: no clipping).
    accumulation
        Iterations of the plan that one optimizer step sums up.
    precision
        ``bfloat16`` computes matrix products in bfloat16 where the device can; weights and their state stay float32.
    device
        ``auto`` takes a GPU where there is one.
    threads
        Threads of each node's process.
    order
        ``planned``: of the tasks that could begin, a node takes the one that the plan begins first. ``strict``: it
        waits for the next task of the plan even if others could begin.
    links
        ``planned``: a message arrives no earlier than the plan says, however fast the real network is.
    compute
        ``planned``: a task takes no less than the plan says, rests included, and injections keep their releases.
    time_scale
        Factor on the plan's times where they are imitated.
    validate_every, validation_windows
        Steps between measurements of the validation loss (0: none), over that many windows.
    checkpoint_every, keep
        Steps between checkpoints (0: only at the end), and how many are kept.
    recovery, redo_gradients
        Policy when a node is lost, and whether microbatches are done again whose gradients died with it.
    respawn
        Start a lost node's process again; it takes weights and optimizer state from another node of its stage, or,
        where there is none, all nodes go back to the last checkpoint. Otherwise the nodes that are left go on alone.
    replan_seconds
        Time limit of planning for the nodes that are left.
    patience
        Seconds of silence after which a node counts as hung.
    task_limit
        Seconds in one task after which a node counts as hung although it still answers.
    slow_factor
        A node whose tasks take this many times their planned times, against the median of all nodes, is planned
        around from the next step on; 0: never.
    join_timeout
        Seconds within which every node must have joined.
    stall_timeout
        Seconds without any finished task after which an iteration is begun anew.
    """

    data: Annotated[str, Field(min_length=1)] = Field(description="a folder of tokens")
    steps: Annotated[int, whole(1, 10**9)] = 100
    seed: Annotated[int, whole(0, 2**31 - 1)] = 0
    learning_rate: Annotated[float, ratio(above=0, most=1e3)] = 1e-3
    schedule: Annotated[str, Field(min_length=1)] = "linear"
    warmup: Annotated[int, whole(0, 10**9)] = 0
    floor: Annotated[float, ratio(least=0, most=1)] = 0.0
    weight_decay: Annotated[float, ratio(least=0, most=10)] = 0.1
    beta1: Annotated[float, ratio(least=0, most=0.99999)] = 0.9
    beta2: Annotated[float, ratio(least=0, most=0.99999)] = 0.95
    epsilon: Annotated[float, ratio(above=0, most=1)] = 1e-8
    clip: Annotated[float, ratio(least=0, most=1e9)] = 1.0
    accumulation: Annotated[int, whole(1, 10**6)] = 1
    precision: Literal["float32", "bfloat16"] = "float32"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: Annotated[int, whole(1, 1024)] = 1
    order: Literal["planned", "strict"] = "planned"
    links: Literal["real", "planned"] = "real"
    compute: Literal["real", "planned"] = "real"
    time_scale: Annotated[float, ratio(above=0, most=1e6)] = 1.0
    validate_every: Annotated[int, whole(0, 10**9)] = 0
    validation_windows: Annotated[int, whole(1, 10**9)] = 64
    checkpoint_every: Annotated[int, whole(0, 10**9)] = 0
    keep: Annotated[int, whole(1, 10**6)] = 2
    recovery: Literal["reroute", "restart"] = "reroute"
    redo_gradients: bool = False
    respawn: bool = False
    replan_seconds: Seconds = 2.0
    patience: Seconds = 10.0
    task_limit: Seconds = 300.0
    slow_factor: Annotated[float, ratio(least=0, most=1e6)] = 0.0
    join_timeout: Seconds = 120.0
    stall_timeout: Seconds = 60.0
