"""How a model is cut into the parts that nodes hold."""

from __future__ import annotations

from collections.abc import Sequence

from pathloom.plan import InputError


def layers_of(stage_layers: Sequence[int], chunks: int) -> list[tuple[int, ...]]:
    """Layers of each virtual stage, in the order of the model.

    With chunks, stage p hosts the virtual stages p, p + S, p + 2 S, ..., each with 1/chunks of its layers.

    Raises
    ------
    InputError
        If the layers of a stage do not divide into its chunks.
    """
    for stage, count in enumerate(stage_layers):
        if count % chunks:
            raise InputError(f"stage {stage} has {count} layers, which do not divide into {chunks} chunks", key="model")
    counts = [count // chunks for _ in range(chunks) for count in stage_layers]
    starts = [sum(counts[:i]) for i in range(len(counts))]
    return [tuple(range(start, start + count)) for start, count in zip(starts, counts, strict=True)]


def parts_of(stage: int, stages: int, chunks: int) -> list[int]:
    """Virtual stages that a node of `stage` holds."""
    return [stage + stages * chunk for chunk in range(chunks)]
