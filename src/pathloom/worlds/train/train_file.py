"""The input file of a training problem as pydantic models: what may stand where, in which unit, with which default.

`TrainFile` is the whole file; Python code may build one without a file and hand it to `from_file.problem_of`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag
from pydantic_core import PydanticCustomError

from pathloom.data.input_model import InputModel, measure, parsed, ratio, shown, whole
from pathloom.data.quantities import UNITS, split_quantity

MOST_NODES = 4000
"""More nodes would need link matrices beyond what a planner can hold."""


@dataclass(frozen=True)
class Speed:
    """Speed of a node: ``seconds`` per layer and sample, ``flops`` (FLOP per second), or a ``factor``."""

    kind: Literal["seconds", "flops", "factor"]
    value: float


@dataclass(frozen=True)
class Memory:
    """Memory of a node: a number of ``activations``, or ``bytes`` for parameters, their state and activations."""

    kind: Literal["activations", "bytes"]
    value: float


@dataclass(frozen=True)
class Work:
    """Forward pass of one layer over one sample: ``seconds`` on a node of speed 1x, or ``flop``."""

    kind: Literal["seconds", "flop"]
    value: float


def _positive(value: Any, wanted: str) -> tuple[float, str]:
    parts = split_quantity(value)
    if parts is None or not math.isfinite(parts[0]) or not 1e-30 < parts[0] < 1e30:
        raise ValueError(f"expected {wanted}, above 0 and finite")
    return parts


def read_speed(value: Any) -> Speed:
    """`Speed` from 0.055, "55 ms", "60 TFLOP/s" or "2x"; ValueError says what was expected."""
    wanted = "seconds per layer and sample (0.055 or '55 ms'), FLOP per second ('60 TFLOP/s') or a factor ('2x')"
    number, unit = _positive(value, wanted)
    if unit in ("x", "X"):
        return Speed("factor", number)
    if unit in UNITS["compute"]:
        return Speed("flops", number * UNITS["compute"][unit])
    if unit == "" or unit in UNITS["time"]:
        return Speed("seconds", number * UNITS["time"].get(unit, 1.0))
    raise ValueError(f"expected {wanted}")


def read_memory(value: Any) -> Memory:
    """`Memory` from 3, "3 activations" or "24 GiB"; ValueError says what was expected."""
    wanted = "a whole number of activations (3) or bytes with their unit ('24 GiB')"
    number, unit = _positive(value, wanted)
    if unit in ("", "activation", "activations"):
        if number != math.floor(number) or number > 10**9:
            raise ValueError(f"expected {wanted}")
        return Memory("activations", number)
    if unit in UNITS["bytes"]:
        return Memory("bytes", number * UNITS["bytes"][unit])
    raise ValueError(f"expected {wanted}")


def read_work(value: Any) -> Work:
    """`Work` from 0.055, "55 ms" or "3 TFLOP"; ValueError says what was expected."""
    wanted = "seconds per sample on a node of speed 1x (0.055 or '55 ms') or FLOP per sample ('3 TFLOP')"
    number, unit = _positive(value, wanted)
    if unit in UNITS["work"]:
        return Work("flop", number * UNITS["work"][unit])
    if unit == "" or unit in UNITS["time"]:
        return Work("seconds", number * UNITS["time"].get(unit, 1.0))
    raise ValueError(f"expected {wanted}")


def read_share(value: Any) -> Fraction:
    """Share of the stages to run from "4/6", 0.667 or 1; ValueError says what was expected."""
    wanted = "a share of the stages above 0 and at most 1, such as 4/6 or 0.667"
    try:
        if isinstance(value, bool) or not isinstance(value, (int, float, str)) or len(str(value)) > 40:
            raise ValueError
        share = Fraction(value.replace(" ", "") if isinstance(value, str) else value)
    except (ValueError, ZeroDivisionError, OverflowError):
        raise ValueError(f"expected {wanted}") from None
    if not 0 < share <= 1:
        raise ValueError(f"expected {wanted}")
    return share


_PRECISIONS = {"fp64": 8, "fp32": 4, "tf32": 4, "bf16": 2, "fp16": 2, "fp8": 1, "int8": 1}


def read_precision(value: Any) -> int:
    """Bytes of an element from 4 or "bf16"; ValueError says what was expected."""
    if isinstance(value, str) and value in _PRECISIONS:
        return _PRECISIONS[value]
    if isinstance(value, int) and not isinstance(value, bool) and value in (1, 2, 4, 8):
        return value
    raise ValueError(f"expected 1, 2, 4 or 8 bytes or one of {', '.join(_PRECISIONS)}")


def _auto(value: Any) -> Any:
    if value == "auto":
        return None
    if not isinstance(value, list):
        raise PydanticCustomError(
            "wrong_value", "expected 'auto' or a list with one number a stage, found {found}", {"found": shown(value)}
        )
    return value


Name = Annotated[str, Field(min_length=1, max_length=100)]
SpeedField = Annotated[Speed, parsed(read_speed, Speed)]
MemoryField = Annotated[Memory, parsed(read_memory, Memory)]
WorkField = Annotated[Work, parsed(read_work, Work)]
ShareField = Annotated[Fraction, parsed(read_share, Fraction)]
PrecisionField = Annotated[int, parsed(read_precision)]
PerStage = Annotated[list[Annotated[int, whole(1, 10**6)]] | None, BeforeValidator(_auto)]


class NodeGroup(InputModel):
    """One node, or ``count`` equal nodes of a region."""

    region: Name = Field(description="the region where the node is")
    name: Name | None = None
    count: Annotated[int, whole(1, MOST_NODES)] = 1
    speed: SpeedField = Field(description="seconds per layer and sample, FLOP per second ('60 TFLOP/s') or a factor")
    memory: MemoryField = Field(description="a number of activations or bytes with their unit ('24 GiB')")


class SpreadNodes(InputModel):
    """``count`` equal nodes dealt over regions in turn."""

    count: Annotated[int, whole(1, MOST_NODES)] = Field(description="the number of nodes")
    regions: Annotated[list[Name], Field(min_length=1)] | None = None
    speed: SpeedField = Field(description="seconds per layer and sample, FLOP per second ('60 TFLOP/s') or a factor")
    memory: MemoryField = Field(description="a number of activations or bytes with their unit ('24 GiB')")


class Pair(InputModel):
    """Delay and bandwidth between two regions or nodes."""

    between: Annotated[list[Name], Field(min_length=2, max_length=2)] = Field(description="two regions or nodes")
    delay: Annotated[float, measure("time", least=0, most=1e6)] = Field(
        description="one-way seconds or with a unit ('67 ms')"
    )
    bandwidth: Annotated[float, measure("bandwidth", above=0)] = Field(
        description="bytes per second or with a unit ('1.2 Gbit/s')"
    )
    both_ways: bool = True


class Inside(InputModel):
    """Delay and bandwidth between two nodes of one region."""

    delay: Annotated[float, measure("time", least=0, most=1e6)] = Field(
        description="one-way seconds or with a unit ('1 ms')"
    )
    bandwidth: Annotated[float, measure("bandwidth", above=0)] = Field(
        description="bytes per second or with a unit ('2 GiB/s')"
    )


class Links(InputModel):
    """Where delays and bandwidths come from, and what a message costs beside them."""

    network: Name | None = None
    as_published: bool = False
    csv: Name | None = None
    pairs: list[Pair] = Field(default_factory=list)
    inside: Inside | None = None
    missing: Literal["error", "none"] = "error"
    overhead: Annotated[float, measure("time", least=0, most=1e6)] = 0.35
    precision: PrecisionField = 4


class Llama(InputModel):
    """A LLaMA-shaped model."""

    dim: Annotated[int, whole(1, 10**6)] = Field(description="the width of the model")
    layers: Annotated[int, whole(1, 10**5)] = Field(description="the number of layers")
    heads: Annotated[int, whole(1, 10**5)] = Field(description="the number of attention heads")
    kv_heads: Annotated[int, whole(1, 10**5)] | None = None
    ffn_dim: Annotated[int, whole(1, 10**7)] | None = None
    context: Annotated[int, whole(1, 10**8)] = Field(description="the tokens of a sample")
    vocab: Annotated[int, whole(1, 10**8)] = 32000
    tied: bool = False
    precision: PrecisionField = 4
    state_copies: Annotated[float, ratio(least=1, most=100)] = 4.0


class LayerCost(InputModel):
    """One layer, or ``count`` equal ones."""

    forward: WorkField = Field(description="seconds or FLOP of the forward pass of one sample")
    activation: Annotated[float, measure("bytes", above=0)] = Field(description="bytes of one sample's activation")
    parameters: Annotated[float, measure("bytes", least=0)] = Field(description="bytes of the layer's parameters")
    count: Annotated[int, whole(1, 10**5)] = 1


class LayerTable(InputModel):
    """A model as a table of its layers' costs."""

    table: Annotated[list[LayerCost], Field(min_length=1)] = Field(description="a list of layers")
    precision: PrecisionField = 4
    state_copies: Annotated[float, ratio(least=1, most=100)] = 4.0


class Stages(InputModel):
    """How many stages, of how many nodes and layers, and which nodes where that is given."""

    count: Annotated[int, whole(1, 1000)] | None = None
    sizes: PerStage = None
    layers: PerStage = None
    placement: list[list[Name]] | None = None


class ReorderingBudget(InputModel):
    """How far a route may leave the order of the stages."""

    distance: Annotated[int, whole(0, 10**6)] = 1
    swaps: Annotated[int, whole(0, 10**6)] = 2
    total: Annotated[int, whole(0, 10**6)] = 2
    jump: Annotated[int, whole(0, 10**6)] = 4


class BalanceRules(InputModel):
    """Which caps of throughput constraint TC1 hold."""

    node: Literal["strict", "free"] = "strict"
    source: Literal["strict", "free"] = "strict"
    stage: Literal["strict", "free"] = "strict"


class TaskTimes(InputModel):
    """Durations beside the forward pass."""

    backward: Annotated[float, ratio(above=0, most=1e3)] = 1.5
    weight: Annotated[float, ratio(least=0, most=1)] = 0.5
    loss: Annotated[float, ratio(least=0, most=1e3)] = 0.25
    gap: Annotated[float, measure("time", least=0, most=1e6)] = 0.13
    injection_gap: Annotated[float, measure("time", least=0, most=1e6)] = 0.09


class Synchronisation(InputModel):
    """Averaging of gradients between the nodes of a stage at the end of the iteration."""

    kind: Literal["none", "all-reduce"] = Field(description="none or all-reduce")
    precision: PrecisionField | None = None


def _nodes_tag(value: Any) -> str | None:
    if isinstance(value, (Mapping, SpreadNodes)):
        return "<spread>"
    return "<list>" if isinstance(value, (list, tuple)) else None


def _model_tag(value: Any) -> str | None:
    if isinstance(value, Mapping):
        return "<table>" if "table" in value else "<llama>"
    if isinstance(value, Llama):
        return "<llama>"
    return "<table>" if isinstance(value, LayerTable) else None


def _short(key: str, kinds: tuple[type, ...]) -> BeforeValidator:
    """``links: gcp12`` is short for ``links: {network: gcp12}``."""
    return BeforeValidator(
        lambda value: {key: value} if isinstance(value, kinds) and not isinstance(value, bool) else value
    )


NodesField = Annotated[
    Annotated[Annotated[list[NodeGroup], Field(min_length=1)], Tag("<list>")] | Annotated[SpreadNodes, Tag("<spread>")],
    Discriminator(
        _nodes_tag,
        custom_error_type="wrong_value",
        custom_error_message="expected a list of nodes, or a mapping with count, speed and memory",
    ),
]
ModelField = Annotated[
    Annotated[Llama, Tag("<llama>")] | Annotated[LayerTable, Tag("<table>")],
    Discriminator(
        _model_tag,
        custom_error_type="wrong_value",
        custom_error_message="expected a LLaMA shape (dim, layers, heads, context) or a table of layers",
    ),
]


class TrainFile(InputModel):
    """A training problem as its input file states it."""

    name: Name = Field(description="a name for the problem")
    nodes: NodesField = Field(description="a list of nodes, or a mapping with count, speed and memory")
    links: Annotated[Links, _short("network", (str,))] = Field(
        description="gcp12, aws10, a CSV file or a list of pairs"
    )
    model: ModelField = Field(description="a LLaMA shape (dim, layers, heads, context) or a table of layers")
    microbatches: Annotated[int, whole(1, 10**6)] = Field(description="the microbatches of an iteration")
    samples: Annotated[int, whole(1, 10**6)] = Field(description="the samples of a microbatch")
    stages: Annotated[Stages, _short("count", (int,))] = Field(description="the number of stages, or count and sizes")
    run_share: ShareField | None = None
    route_length: Annotated[int, whole(1, 1000)] | None = None
    reordering: ReorderingBudget = Field(default_factory=ReorderingBudget)
    balance: BalanceRules = Field(default_factory=BalanceRules)
    times: TaskTimes = Field(default_factory=TaskTimes)
    synchronisation: Annotated[Synchronisation, _short("kind", (str,))] = Field(
        default_factory=lambda: Synchronisation(kind="none")
    )
