"""From an input file's content to the training problem that it describes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from pathloom.data.naming import unknown_name
from pathloom.plan import InputError, ProvenInfeasible
from pathloom.worlds.train.balance import Balance, even_sizes, split_layers
from pathloom.worlds.train.file_nodes import FileNodes, file_nodes, join, region_network
from pathloom.worlds.train.instance import Times, pipeline_instance
from pathloom.worlds.train.llama import LlamaShape, default_ffn_dim
from pathloom.worlds.train.problem import Floats, Ints, Reordering, TrainProblem, Workload
from pathloom.worlds.train.train_file import Llama, TrainFile

# Longer tasks and messages are slips of a unit, and would drown the rest of the plan in rounding.
LONGEST, SHORTEST = 1e8, 1e-9


@dataclass(frozen=True)
class _Layers:
    """The L layers of the model, per sample: work (seconds or FLOP), bytes of activation and of parameters."""

    in_flop: bool
    work: Floats
    activation: float
    parameters: Floats
    first_stage: float


def problem_of(spec: TrainFile, *, file: str = "", folder: Path | None = None) -> TrainProblem:
    """The training problem that a file's content describes.

    Parameters
    ----------
    spec
        The content, from `pathloom.worlds.train.files.loads` or built in Python.
    file
        Name of the file, for messages and for the problem.
    folder
        Where relative CSV names start; None: the current folder.

    Raises
    ------
    InputError
        Names the file, the key and what was expected.
    ProvenInfeasible
        If no plan can exist; the requirement is "memory" or "reordering".
    """
    try:
        return _problem(spec, file, folder or Path())
    except InputError as error:
        if error.file is not None or not file:
            raise
        raise InputError(error.reason, file=file, key=error.key) from None
    except ProvenInfeasible as error:
        if not file:
            raise
        reason = str(error).partition(f": {error.requirement}: ")[2]
        raise ProvenInfeasible(error.requirement, f"{file}: {reason}") from None
    except ValueError as error:
        raise InputError(str(error), file=file or None) from None


def _problem(spec: TrainFile, file: str, folder: Path) -> TrainProblem:
    network = region_network(spec, folder)
    nodes = file_nodes(spec, network)
    joined = join(spec, nodes, network)
    layers = _layers(spec)
    sizes, placement = _stages(spec, nodes)
    stage_layers = _stage_layers(spec, layers, len(sizes))
    forward = _forward(spec, nodes, layers, stage_layers)
    length = _route_length(spec, len(sizes))
    if length > 1 and spec.reordering.jump == 0:
        raise ProvenInfeasible("reordering", "a jump of 0 reaches no stage beyond stage 0; expected 1 or more")
    memory = _memory(spec, nodes, layers, stage_layers, placement)
    gradient = None
    if spec.synchronisation.kind == "all-reduce":
        per_parameter = (spec.synchronisation.precision or spec.model.precision) / spec.model.precision
        gradient = max(_per_stage(layers.parameters, stage_layers)) * per_parameter
    problem = pipeline_instance(
        nodes.names,
        joined,
        name=spec.name,
        nodes=nodes.names,
        stages=sizes.tolist(),
        placement=placement,
        forward=forward,
        activation_bytes=layers.activation,
        samples=spec.samples,
        overhead=spec.links.overhead,
        memory=memory,
        microbatches=spec.microbatches,
        route_length=length,
        reordering=Reordering(**spec.reordering.model_dump()),
        balance=Balance(**spec.balance.model_dump()),
        times=Times(**spec.times.model_dump()),
        gradient_bytes=gradient,
        file=file,
    )
    longest = problem.link[np.isfinite(problem.link)].max()
    if longest > LONGEST:
        raise InputError(f"a message would take {longest:.3g} s; expected at most {LONGEST:.0e} s", key="links")
    workload = None
    if isinstance(spec.model, Llama):
        workload = Workload(llama_shape(spec.model), tuple(stage_layers.tolist()), spec.samples)
    return replace(problem, locations=nodes.regions, workload=workload)


def _layers(spec: TrainFile) -> _Layers:
    model = spec.model
    if isinstance(model, Llama):
        shape = llama_shape(model)
        return _Layers(
            True,
            np.full(model.layers, shape.layer_flops),
            shape.activation_bytes(spec.links.precision),
            np.full(model.layers, float(shape.layer_parameters * model.precision)),
            float(shape.embedding_parameters * model.precision),
        )
    kinds = {cost.forward.kind for cost in model.table}
    if len(kinds) > 1:
        raise InputError("gives some layers in seconds and some in FLOP; expected one of them", key="model.table")
    rows = [cost for cost in model.table for _ in range(cost.count)]
    if len(rows) > 10**5:
        raise InputError(f"has {len(rows)} layers, expected at most 100000", key="model.table")
    return _Layers(
        kinds == {"flop"},
        np.array([cost.forward.value for cost in rows]),
        # Links are alike for all stages in the problem, so the widest activation counts.
        max(cost.activation for cost in rows),
        np.array([cost.parameters for cost in rows]),
        0.0,
    )


def llama_shape(model: Llama) -> LlamaShape:
    """Shape of the file's model, defaults filled in.

    Raises
    ------
    InputError
        If the heads do not divide the width.
    """
    kv_heads = model.heads if model.kv_heads is None else model.kv_heads
    if model.dim % model.heads:
        raise InputError(f"expected a divisor of dim {model.dim}, found {model.heads}", key="model.heads")
    if model.heads % kv_heads:
        raise InputError(f"expected a divisor of heads {model.heads}, found {kv_heads}", key="model.kv_heads")
    ffn_dim = default_ffn_dim(model.dim) if model.ffn_dim is None else model.ffn_dim
    return LlamaShape(model.dim, model.layers, model.heads, kv_heads, ffn_dim, model.context, model.vocab, model.tied)


def _stages(spec: TrainFile, nodes: FileNodes) -> tuple[Ints, Ints | None]:
    """Sizes of the stages, and the stage of each node where the file gives a placement."""
    n, stages = len(nodes.names), spec.stages
    count = stages.count
    if stages.placement is not None:
        sizes = [len(part) for part in stages.placement]
        if not sizes or 0 in sizes:
            raise InputError("expected at least one node on every stage", key="stages.placement")
        if stages.sizes is not None and stages.sizes != sizes:
            raise InputError(f"expected {sizes} as in the placement, or auto", key="stages.sizes")
        if count is not None and count != len(sizes):
            raise InputError(f"expected {len(sizes)} stages as in the placement, found {count}", key="stages.count")
        placement = np.full(n, -1, dtype=np.int64)
        index = {name: i for i, name in enumerate(nodes.names)}
        for stage, part in enumerate(stages.placement):
            for position, name in enumerate(part):
                key = f"stages.placement[{stage}][{position}]"
                if name not in index:
                    raise InputError(unknown_name("node", name, index, "this file"), key=key)
                if placement[index[name]] >= 0:
                    raise InputError(f"node '{name}' is placed twice", key=key)
                placement[index[name]] = stage
        if (placement < 0).any():
            left = nodes.names[int(np.argmin(placement))]
            raise InputError(f"expected every node on a stage, '{left}' has none", key="stages.placement")
        return np.array(sizes, dtype=np.int64), placement
    if stages.sizes is not None:
        if count is not None and count != len(stages.sizes):
            raise InputError(f"expected one size a stage ({count}), found {len(stages.sizes)}", key="stages.sizes")
        if sum(stages.sizes) != n:
            raise InputError(f"sum to {sum(stages.sizes)}, expected the {n} nodes of the file", key="stages.sizes")
        return np.array(stages.sizes, dtype=np.int64), None
    if count is None:
        raise InputError("expected the number of stages, their sizes, or a placement", key="stages")
    if count > n:
        raise InputError(f"expected at most as many stages as nodes ({n}), found {count}", key="stages.count")
    return even_sizes(n, count), None


def _stage_layers(spec: TrainFile, layers: _Layers, stages: int) -> Ints:
    given, total = spec.stages.layers, len(layers.work)
    if given is not None:
        if len(given) != stages:
            raise InputError(f"expected one number a stage ({stages}), found {len(given)}", key="stages.layers")
        if sum(given) != total:
            raise InputError(f"sum to {sum(given)}, expected the {total} layers of the model", key="stages.layers")
        return np.array(given, dtype=np.int64)
    if total < stages:
        raise InputError(f"expected at most as many stages as layers ({total}), found {stages}", key="stages")
    return split_layers(layers.work.tolist(), stages)


def _per_stage(values: Floats, stage_layers: Ints) -> Floats:
    """Sum over the layers of each stage, shape (S,)."""
    return np.add.reduceat(values, np.concatenate(([0], np.cumsum(stage_layers)[:-1])))


def _forward(spec: TrainFile, nodes: FileNodes, layers: _Layers, stage_layers: Ints) -> Floats:
    """Seconds of each stage's forward pass on each node, shape (N, S)."""
    work = _per_stage(layers.work, stage_layers) * spec.samples
    table = not isinstance(spec.model, Llama)
    forward = np.zeros((len(nodes.names), len(stage_layers)))
    for i, speed in enumerate(nodes.speed):
        if speed.kind == ("flops" if layers.in_flop else "factor"):
            forward[i] = work / speed.value
        elif speed.kind == "seconds" and not table:
            forward[i] = stage_layers * spec.samples * speed.value
        else:
            wanted = "FLOP per second ('60 TFLOP/s')" if layers.in_flop else "a factor ('1x', '2x')"
            also = "" if table else " or seconds per layer and sample"
            raise InputError(f"expected {wanted}{also} for this kind of model", key=f"{nodes.key[i]}.speed")
        longest, shortest = float(forward[i].max()), float(forward[i].min())
        if longest > LONGEST or shortest < SHORTEST:
            found = longest if longest > LONGEST else shortest
            message = f"a forward pass would take {found:.3g} s; expected {SHORTEST:.0e} to {LONGEST:.0e} s"
            raise InputError(message, key=f"{nodes.key[i]}.speed")
    return forward


def _route_length(spec: TrainFile, stages: int) -> int:
    if spec.run_share is not None and spec.route_length is not None:
        raise InputError("expected either run_share or route_length, found both", key="run_share")
    if spec.route_length is not None:
        if spec.route_length > stages:
            message = f"expected at most the {stages} stages that there are, found {spec.route_length}"
            raise InputError(message, key="route_length")
        return spec.route_length
    if spec.run_share is None:
        return stages
    wanted = float(spec.run_share) * stages
    length = round(wanted)
    # Two decimals of a share are off by half a hundredth.
    if length < 1 or abs(wanted - length) > 0.01 * stages:
        near = sorted({max(1, math.floor(wanted)), min(stages, math.ceil(wanted))})
        shares = " or ".join(f"{k}/{stages}" for k in near)
        raise InputError(f"comes to {wanted:.4g} of {stages} stages; expected {shares}", key="run_share")
    return length


def _memory(
    spec: TrainFile, nodes: FileNodes, layers: _Layers, stage_layers: Ints, placement: Sequence[int] | Ints | None
) -> Ints:
    """Activations that each node holds, shape (N,).

    Of a memory in bytes the stage's parameters take ``state_copies`` times their size (weights, gradients, two moments
    of the optimiser), and one microbatch takes its activation at each of the stage's layers, the rest being recomputed.
    A node that is not placed yet must hold any stage: the largest counts.
    """
    state = _per_stage(layers.parameters, stage_layers)
    state[0] += layers.first_stage
    state *= spec.model.state_copies
    activation = stage_layers * layers.activation * spec.samples
    slots = np.zeros(len(nodes.names), dtype=np.int64)
    for i, memory in enumerate(nodes.memory):
        if memory.kind == "activations":
            slots[i] = int(memory.value)
            continue
        room = np.floor((memory.value - state) / activation)
        stage = int(np.argmin(room)) if placement is None else int(placement[i])
        if room[stage] >= 1:
            slots[i] = int(min(room[stage], 10**9))
            continue
        somewhere = placement is None and bool((room >= 1).any())
        if placement is None and not somewhere:
            stage = int(np.argmax(room))
        need = state[stage] + activation[stage]
        message = (
            f"node '{nodes.names[i]}' has {memory.value:.4g} bytes, but parameters with their state "
            f"({state[stage]:.4g}) and one activation ({activation[stage]:.4g}) of stage {stage} take {need:.4g}"
        )
        if somewhere:
            # Some placement may do; the problem has one memory a node, so the file must say which.
            raise InputError(f"{message}; expected more, or a placement", key=f"{nodes.key[i]}.memory")
        raise ProvenInfeasible("memory", f"{nodes.key[i]}.memory: {message}")
    return slots
