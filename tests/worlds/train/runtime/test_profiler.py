"""A machine's profile is made of positive times that agree with each other and with the file that they go into."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from pathloom.plan import InputError
from pathloom.worlds.train.files import example, load
from pathloom.worlds.train.runtime.compute_profile import ComputeProfile, Timing

torch = pytest.importorskip("torch")
pytest.importorskip("ruamel.yaml")

from pathloom.learn.language_model.config import LanguageModelConfig  # noqa: E402
from pathloom.worlds.train.runtime import profiler  # noqa: E402
from pathloom.worlds.train.runtime.link_profile import LinkFigures, local_probe  # noqa: E402
from pathloom.worlds.train.runtime.profiler import profile_compute, profile_file  # noqa: E402

CONFIG = LanguageModelConfig(dim=32, layers=4, heads=4, kv_heads=2, ffn_dim=64, context=16, vocab=50)
SMALL = {"dim: 1024": "dim: 32", "heads: 16": "heads: 4", "context: 1024": "context: 16", "vocab: 32000": "vocab: 50"}


@pytest.fixture(autouse=True)
def quick_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(profiler, "measure_loopback", lambda: LinkFigures(1e-5, 1e9))


@pytest.fixture
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    text = example()
    for old, new in SMALL.items():
        text = text.replace(old, new)
    path = tmp_path / "problem.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def profile_of(**seconds: float) -> ComputeProfile:
    named = {"forward", "backward", "input_part", "weight_part", "embed", "embed_backward", "loss"}
    timings = {name: Timing.of([seconds.get(name, 1.0)]) for name in named}
    return ComputeProfile(8, 1024, **timings, device="cpu", threads=1, precision="float32", repeats=1)


def test_the_ratios_are_those_of_one_stage_as_the_file_means_them() -> None:
    profile = profile_of(forward=0.44, backward=0.66, input_part=0.4, weight_part=0.6, loss=0.44)
    assert profile.speed == pytest.approx(0.055)
    assert profile.backward_ratio == pytest.approx(1.5)
    assert profile.weight_share == pytest.approx(0.6)
    # Four layers in stage 0: its forward pass takes 1.76 s, and the loss a quarter of that.
    assert profile.loss_ratio(4) == pytest.approx(0.25)


def test_a_spread_is_the_quartiles_of_the_rounds() -> None:
    assert Timing.of([5.0, 1.0, 3.0, 2.0, 4.0]) == Timing(3.0, 2.0, 4.0)
    assert Timing.of([7.0]) == Timing(7.0, 7.0, 7.0)


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_every_piece_of_a_microbatch_takes_time(one_thread: None, tied: bool, precision: str) -> None:
    config = LanguageModelConfig(**{**vars(CONFIG), "tied": tied})
    profile = profile_compute(config, samples=2, context=16, device="cpu", repeats=3, precision=precision)
    assert (profile.samples, profile.context, profile.threads, profile.device) == (2, 16, 1, "cpu")
    for timing in profile.timings().values():
        assert 0 < timing.low <= timing.median <= timing.high
    assert 0 < profile.weight_share < 1
    assert profile.backward_ratio > 0
    assert profile.loss_ratio(2) == pytest.approx(profile.loss_ratio(1) / 2)


def test_threads_are_pinned_while_it_measures_and_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    from pathloom.worlds.train.runtime import layer_timing

    before = torch.get_num_threads()
    seen: list[int] = []

    def watched(timer: layer_timing.MicrobatchTimer) -> dict[str, float]:
        seen.append(torch.get_num_threads())
        return dict.fromkeys(layer_timing.PIECES, 1.0)

    monkeypatch.setattr(layer_timing.MicrobatchTimer, "round", watched)
    profile_compute(CONFIG, samples=1, context=4, threads=before + 1, device="cpu", repeats=1)
    assert set(seen) == {before + 1}
    assert torch.get_num_threads() == before


def test_the_two_parts_of_a_backward_pass_leave_what_the_whole_leaves(one_thread: None) -> None:
    """The timed work is the real work: after any round every weight has a gradient, twice the ordinary one."""
    from pathloom.worlds.train.runtime.layer_timing import MicrobatchTimer

    timer = MicrobatchTimer(CONFIG, samples=2, context=8, device=torch.device("cpu"), autocast=False)
    timer.round()
    both = {name: weight.grad.clone() for name, weight in timer.stack.named_parameters()}
    timer.stack.zero_grad()
    timer._backward(timer._forward(split=False))
    for name, weight in timer.stack.named_parameters():
        torch.testing.assert_close(both[name], 2 * weight.grad)
    assert all(weight.grad is not None for weight in timer.ends.parameters())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"device": "tpu"}, r"--device tpu: .*expected auto, cpu or cuda"),
        ({"device": "meta"}, r"--device meta: .*expected auto, cpu or cuda"),
        ({"threads": 0}, r"--threads: expected a whole number"),
        ({"repeats": 0}, r"--repeats: expected a whole number"),
        ({"precision": "int4"}, r"--precision: expected float32 or bfloat16, found 'int4'"),
        ({"context": 17}, r"context: expected 1 to 16 tokens, found 17"),
    ],
)
def test_what_cannot_be_measured_is_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        profile_compute(CONFIG, **{"samples": 1, "context": 8, "device": "cpu", **options})  # type: ignore[arg-type]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_gpu_that_is_not_there_is_refused() -> None:
    with pytest.raises(InputError, match="--device cuda: cannot be used"):
        profile_compute(CONFIG, samples=1, context=8, device="cuda")


def test_the_file_holds_the_measured_figures_afterwards(file: Path) -> None:
    before = load(file)
    result = profile_file(file, nodes=["Iowa-1", "slow-london"], device="cpu", repeats=2)
    after = load(file)
    compute = result.to_dict()["compute"]
    assert result.written
    for node in ("Iowa-1", "slow-london"):
        n = after.nodes.index(node)
        # Three layers a stage and eight samples.
        assert after.forward[n, 0] == pytest.approx(24 * compute["speed"], rel=1e-3)
        assert after.loss[n] == pytest.approx(compute["loss"]["median"], rel=2e-3)
        assert after.backward[n, 0] == pytest.approx(3 * compute["backward"]["median"], rel=2e-3)
    others = [n for n, name in enumerate(after.nodes) if name not in ("Iowa-1", "slow-london")]
    np.testing.assert_array_equal(after.forward[others], before.forward[others])
    assert after.gap == before.gap
    assert re.findall("#.*", file.read_text()) == re.findall("#.*", example())


def test_a_measured_link_stands_in_the_file_and_loopback_is_never_written_unasked(file: Path) -> None:
    with local_probe() as port:
        result = profile_file(file, links=[f"Iowa-1:London=127.0.0.1:{port}"], compute=False)
    figures = result.to_dict()["links"][0]["there"]
    link = load(file).link
    assert link[0, 7] == pytest.approx(0.35 + figures["delay"], rel=0.01)
    assert "loopback" not in result.to_dict()
    assert profile_file(file, compute=False).written is False
    assert (load(file).link == link).all()


def test_a_dry_run_tells_and_does_not_write(file: Path) -> None:
    text = file.read_text()
    result = profile_file(file, device="cpu", repeats=1, links=["Iowa:London=loopback"], dry_run=True)
    assert file.read_text() == text
    assert not result.written
    assert "+  backward: " in result.diff
    assert "+    - {between: [Iowa, London], delay: 10 us, bandwidth: 1 GB/s}" in result.diff


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"nodes": ["Iowa-9"]}, r"problem\.yaml: --node: .*'Iowa-9'"),
        ({"links": ["Iowa:London"]}, r"--link: expected NODE:NODE=HOST:PORT"),
        ({"links": ["Iowa:Londn=loopback"]}, r"problem\.yaml: --link: .*'Londn'"),
        ({"links": ["Iowa:London=here"]}, r"--link: expected HOST:PORT"),
        ({"links": ["Iowa:London=127.0.0.1:1"]}, r"127\.0\.0\.1:1: refuses connections"),
        ({"serve": "here"}, r"--serve: expected HOST:PORT"),
    ],
)
def test_a_mistake_or_a_dead_peer_leaves_the_file_as_it_was(
    file: Path, options: dict[str, object], message: str
) -> None:
    text = file.read_text()
    with pytest.raises(InputError, match=message):
        profile_file(file, device="cpu", repeats=1, **options)  # type: ignore[arg-type]
    assert file.read_text() == text
    assert list(file.parent.iterdir()) == [file]


def test_a_table_of_layers_cannot_be_profiled_but_its_links_can(file: Path) -> None:
    table = "model:\n  table: [{forward: 55 ms, activation: 4 MiB, parameters: 64 MiB, count: 12}]\n\n"
    text = re.sub(r"model:\n(  .*\n)+", table, file.read_text())
    text = re.sub(r"speed: 0\.\d+", "speed: 1x", text)
    file.write_text(text)
    with pytest.raises(InputError, match=r"problem\.yaml: model: is a table of layers"):
        profile_file(file, device="cpu", repeats=1)
    assert file.read_text() == text
    assert profile_file(file, compute=False, links=["Iowa:London=loopback"]).written


def test_a_shape_that_no_decoder_has_is_named_by_its_key(file: Path) -> None:
    file.write_text(file.read_text().replace("heads: 4", "heads: 32"))
    with pytest.raises(InputError, match=r"problem\.yaml: model\.heads: .*must be even"):
        profile_file(file, device="cpu", repeats=1)
