"""How fast is one decoder here, beside transformers' LlamaForCausalLM of the same shape with the same weights?

One process, one step after another in turn: forward and backward pass, and a step of fused AdamW. On a CPU in float32,
in one thread; with --device cuda also a model of the 125M class in bfloat16 autocast, with the peak of its memory.
"""

from __future__ import annotations

import _one_thread  # noqa: F401  # isort: skip

import gc
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median, quantiles

import torch
from torch import Tensor

from _table import Cell, Table, finish, options, say
from _targets import TARGETS, Verdict
from pathloom.learn.language_model.config import LanguageModelConfig
from pathloom.learn.language_model.decoder import DecoderPart

NAME = "model_speed"
CPU = LanguageModelConfig(dim=256, layers=4, heads=4, kv_heads=4, ffn_dim=768, context=256, vocab=2048)
CPU_GROUPED = LanguageModelConfig(dim=256, layers=4, heads=8, kv_heads=2, ffn_dim=768, context=256, vocab=2048)
CUDA = LanguageModelConfig(dim=768, layers=12, heads=12, kv_heads=12, ffn_dim=2048, context=1024, vocab=32000)
QUICK = LanguageModelConfig(dim=32, layers=2, heads=2, kv_heads=2, ffn_dim=64, context=32, vocab=256)
SAME = 1e-3
"""Largest relative difference of the losses of the first step; bfloat16 is allowed ten times as much."""
ATTENTION = "sdpa"
"""The attention of the peer that is fastest without further packages."""

COLUMNS = [
    "device",
    "type",
    "model",
    "parameters",
    "samples",
    "steps each",
    "tokens/s here",
    "its quartiles",
    "tokens/s transformers",
    "quartiles of it",
    "here / transformers",
    "peak MiB here",
    "peak MiB transformers",
]
Loss = Callable[[Tensor, Tensor], Tensor]


@dataclass
class Trainer:
    """A model under training: its loss, its optimizer, the seconds of its steps, and its peak of memory."""

    loss: Loss
    optimizer: torch.optim.Optimizer
    device: torch.device
    autocast: bool
    seconds: list[float]
    peak: float | None = None

    def step(self, tokens: Tensor, targets: Tensor) -> float:
        """One step; its loss, waited for."""
        self._wait()
        began = time.perf_counter()
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.autocast):
            loss = self.loss(tokens, targets)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        self.optimizer.zero_grad()
        self._wait()
        self.seconds.append(time.perf_counter() - began)
        return float(loss.detach())

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def trainer(model: torch.nn.Module, loss: Loss, device: torch.device, autocast: bool) -> Trainer:
    """A model with AdamW."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, betas=(0.9, 0.95), weight_decay=0.1, fused=True)
    return Trainer(loss, optimizer, device, autocast, [])


def ours(config: LanguageModelConfig, device: torch.device, autocast: bool) -> Trainer:
    """The decoder of a run."""
    part = DecoderPart(config, range(config.layers), embedding=True, head=True).to(device)
    return trainer(part, lambda tokens, targets: part.loss(part(part.embed(tokens)), targets), device, autocast)


def theirs(config: LanguageModelConfig, device: torch.device, autocast: bool) -> Trainer:
    """The peer with the same weights."""
    from transformers import LlamaConfig, LlamaForCausalLM

    settings = LlamaConfig(**config.to_hugging_face(), attn_implementation=ATTENTION, use_cache=False)
    model = LlamaForCausalLM(settings)
    weights = DecoderPart(config, range(config.layers), embedding=True, head=True).state_dict()
    model.load_state_dict(weights, strict=True)
    model = model.to(device).train()

    def loss(tokens: Tensor, targets: Tensor) -> Tensor:
        return model(input_ids=tokens, labels=tokens, shift_labels=targets).loss  # type: ignore[no-any-return]

    return trainer(model, loss, device, autocast)


def peak(make: Callable[[], Trainer], tokens: Tensor, targets: Tensor) -> float | None:
    """MiB that three steps of a model alone need at most, gradients and optimizer included; None on a CPU."""
    if tokens.device.type != "cuda":
        return None
    gc.collect()
    torch.cuda.empty_cache()
    before = torch.cuda.memory_allocated(tokens.device)
    torch.cuda.reset_peak_memory_stats(tokens.device)
    alone = make()
    for _ in range(3):
        alone.step(tokens, targets)
    return (torch.cuda.max_memory_allocated(tokens.device) - before) / 2**20


def row(
    config: LanguageModelConfig, samples: int, steps: int, warm_up: int, device: torch.device, autocast: bool, seed: int
) -> list[Cell]:
    """Both models in turn; RuntimeError if they are not the same function."""
    generator = torch.Generator().manual_seed(seed)
    both = torch.randint(config.vocab, (samples, config.context + 1), generator=generator).to(device)
    tokens, targets = both[:, :-1].contiguous(), both[:, 1:].contiguous()
    peaks = [peak(lambda make=make: make(config, device, autocast), tokens, targets) for make in (ours, theirs)]  # type: ignore[misc]
    here, there = ours(config, device, autocast), theirs(config, device, autocast)
    first = here.step(tokens, targets), there.step(tokens, targets)
    if abs(first[0] - first[1]) > (10 if autocast else 1) * SAME * first[1]:
        raise RuntimeError(f"the two models differ: loss {first[0]} here, {first[1]} in transformers")
    for _ in range(warm_up - 1 + steps):
        for side in (here, there):
            side.step(tokens, targets)
    count = samples * config.context
    speeds = [[count / s for s in side.seconds[warm_up:]] for side in (here, there)]
    grouped = "" if config.heads == config.kv_heads else f" ({config.kv_heads} for keys)"
    cells: list[Cell] = [
        torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU, 1 thread",
        "bfloat16 autocast" if autocast else "float32",
        f"dim {config.dim}, {config.layers} layers, {config.heads} heads{grouped}, context {config.context}, "
        f"vocabulary {config.vocab:,}",
        config.parameters,
        samples,
        steps,
    ]
    for side in speeds:
        low, _, high = quantiles(side, n=4)
        cells += [round(median(side)), f"{low:,.0f} to {high:,.0f}"]
    cells.append(round(median(speeds[0]) / median(speeds[1]), 3))
    return [*cells, *(None if value is None else round(value) for value in peaks)]


def verdicts(rows: list[list[Cell]], short: str) -> list[Verdict]:
    """The worst ratio of each device."""
    found = []
    at = COLUMNS.index("here / transformers")
    for key, kind in (("model-speed-cpu", "CPU"), ("model-speed-cuda", "")):
        ratios = [float(each[at]) for each in rows if str(each[0]).startswith("CPU") == bool(kind)]  # type: ignore[arg-type]
        if ratios and key in TARGETS:
            found.append(TARGETS[key].judge(min(ratios), " and ".join(map(str, ratios)), short_of=short))
    return found


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark."""
    parser = options(NAME, __doc__)
    parser.add_argument("--quick", action="store_true", help="a tiny model and few steps, to see that everything works")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu", help="cuda: beside the rows of the CPU")
    parser.add_argument("--samples", type=int, default=8, help="sequences of a step on the GPU")
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--warm-up", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args(argv)
    if chosen.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda: there is no GPU here")
    torch.set_num_threads(1)
    steps = 4 if chosen.quick else chosen.steps

    cases = [(QUICK, 2, "cpu")] if chosen.quick else [(CPU, 4, "cpu"), (CPU_GROUPED, 4, "cpu")]
    if chosen.device == "cuda":
        cases.append((QUICK if chosen.quick else CUDA, 2 if chosen.quick else chosen.samples, "cuda"))
    rows = []
    for config, samples, device in cases:
        gpu = device == "cuda"
        rows.append(row(config, samples, steps, chosen.warm_up, torch.device(device), gpu, chosen.seed))
        say(", ".join(map(str, rows[-1])))
    from transformers import __version__ as version

    short = "--quick" if chosen.quick else "20 steps" if steps < 20 else ""
    table = Table(
        title="Training one decoder, beside transformers",
        columns=COLUMNS,
        rows=rows,
        settings={"torch": torch.__version__, "transformers": version, "attention of the peer": ATTENTION},
        seeds=[chosen.seed],
        notes=[
            "A step: forward and backward pass, fused AdamW, gradients dropped; the sides take turns, step by step.",
            "Both begin with the same weights; their first losses are compared.",
            "Peak: of a model's first three steps alone on the device, with weights, gradients and optimizer state.",
        ],
        verdicts=verdicts(rows, short),
    )
    finish(table, NAME, chosen)
    return 0


if __name__ == "__main__":
    sys.exit(main())
