"""However a decoder is cut into stages it is one model; stages can be skipped and swapped."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from pathloom.learn.language_model.config import LanguageModelConfig  # noqa: E402
from pathloom.learn.language_model.decoder import Decoder, DecoderPart  # noqa: E402

# Initial values far wider than usual, so that attention and norms matter in the logits
CONFIG = LanguageModelConfig(
    dim=32, layers=4, heads=4, kv_heads=2, ffn_dim=80, context=24, vocab=61, initializer_range=0.2
)
TOKENS = torch.randint(0, 61, (3, 21), generator=torch.Generator().manual_seed(1))
TARGETS = TOKENS.roll(-1, 1)

cuts = st.sets(st.integers(1, 3)).map(lambda cut: [b - a for a, b in zip([0, *sorted(cut)], [*sorted(cut), 4])])


@cache
def whole(tied: bool) -> DecoderPart:
    part = DecoderPart(replace(CONFIG, tied=tied), range(4), embedding=True, head=True, seed=5)
    part.loss(part(part.embed(TOKENS)), TARGETS).backward()
    return part


@settings(deadline=None, max_examples=12)
@given(cuts, st.booleans())
def test_any_cut_has_the_same_logits_and_gradients_as_the_whole(stage_layers: list[int], tied: bool) -> None:
    one = whole(tied)
    model = Decoder(one.config, stage_layers, seed=5)
    assert torch.equal(model.logits(TOKENS), one.logits(one(one.embed(TOKENS))))
    model.loss(TOKENS, TARGETS).backward()
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    assert gradients.keys() == one.config.parameter_shapes().keys()
    for name, parameter in one.named_parameters():
        assert torch.equal(gradients[name], parameter.grad), name


@settings(deadline=None, max_examples=20)
@given(st.permutations(range(4)), st.integers(0, 4))
def test_an_order_runs_those_stages_one_after_the_other(permutation: list[int], length: int) -> None:
    order = permutation[:length]
    model = Decoder(CONFIG, [1] * 4, seed=5)
    parts = [DecoderPart(CONFIG, [i], embedding=i == 2, head=i == 2, seed=5) for i in range(4)]
    hidden = parts[2].embed(TOKENS)
    for stage in order:
        hidden = parts[stage](hidden)
    assert torch.equal(model.run(TOKENS, order), hidden)
    assert torch.equal(model.logits(TOKENS, order), parts[2].logits(hidden))
    loss = model.loss(TOKENS, TARGETS, order)
    assert torch.equal(loss, parts[2].loss(hidden, TARGETS))
    loss.backward()
    for stage, part in enumerate(model.stages):
        weight = part.model.layers[str(stage)].mlp.up_proj.weight
        assert (weight.grad is not None) == (stage in order)


def test_the_order_of_swapped_stages_matters() -> None:
    model = Decoder(CONFIG, [1] * 4)
    assert not torch.allclose(model.logits(TOKENS, [0, 2, 1, 3]), model.logits(TOKENS), atol=1e-3)
    assert torch.equal(model.logits(TOKENS, [0, 1, 2, 3]), model.logits(TOKENS))


@pytest.mark.parametrize("order", [[0, 4], [-1], [1, 1]])
def test_an_order_names_different_stages_that_exist(order: list[int]) -> None:
    with pytest.raises(ValueError, match="order: expected different numbers between 0 and 3"):
        Decoder(CONFIG, [1] * 4).run(TOKENS, order)


def test_initial_values_depend_on_seed_and_name_alone() -> None:
    state = torch.random.get_rng_state()
    part = DecoderPart(CONFIG, [3, 1], head=True, seed=5)
    everything = Decoder(CONFIG, seed=5).state_dict()
    other = Decoder(CONFIG, seed=6).state_dict()
    assert part.layers == (1, 3)
    for name, value in part.state_dict().items():
        assert torch.equal(value, everything[name]), name
        assert torch.equal(value, other[name]) == ("norm" in name), name
    assert torch.equal(torch.random.get_rng_state(), state), "the global random state was used"
    # Pinned: another process and another day start from the same model
    assert everything["model.layers.1.mlp.up_proj.weight"][0, :3].tolist() == pytest.approx(PINNED, abs=1e-7)


PINNED = [-0.0673514009, 0.4657806456, 0.0958794504]


def test_initial_matrices_have_the_stated_spread() -> None:
    config = replace(CONFIG, layers=2, dim=128, ffn_dim=256, initializer_range=0.02)
    for name, value in Decoder(config).state_dict().items():
        if "norm" in name:
            assert (value == 1).all()
        else:
            last = name.endswith(("o_proj.weight", "down_proj.weight"))
            assert value.std().item() == pytest.approx(0.01 if last else 0.02, rel=0.05), name
            assert abs(value.mean().item()) < 0.001


def test_no_token_sees_a_later_one() -> None:
    model = Decoder(CONFIG)
    changed = TOKENS.clone()
    changed[:, 10] = (changed[:, 10] + 1) % 61
    before, after = model.logits(TOKENS), model.logits(changed)
    assert torch.equal(before[:, :10], after[:, :10])
    assert (before[:, 10:] != after[:, 10:]).any(-1).all()


def test_a_shorter_sequence_is_the_beginning_of_a_longer_one() -> None:
    model = Decoder(CONFIG)
    torch.testing.assert_close(model.logits(TOKENS[:, :5]), model.logits(TOKENS)[:, :5], atol=1e-5, rtol=0)
    with pytest.raises(ValueError, match="25 positions, the model's context is 24"):
        model.run(torch.zeros(1, 25, dtype=torch.int64))


def test_rotary_tables_stay_in_float32_and_out_of_the_state() -> None:
    part = DecoderPart(CONFIG, [0])
    angle_23 = part.model.rotary.sin[23].clone()
    part.to(torch.bfloat16)
    assert part.model.rotary.sin.dtype == torch.float32
    assert torch.equal(part.model.rotary.sin[23], angle_23)
    assert part.model.layers["0"].mlp.up_proj.weight.dtype == torch.bfloat16
    assert not any("rotary" in name for name in part.state_dict())


def test_a_model_made_on_the_meta_device_has_its_tables_when_it_gets_memory() -> None:
    with torch.device("meta"):
        part = DecoderPart(CONFIG, range(4), embedding=True, head=True, seed=None)
    part.to_empty(device="cpu")
    part.load_state_dict(Decoder(CONFIG, seed=5).state_dict())
    assert torch.equal(part(part.embed(TOKENS)), whole(False)(whole(False).embed(TOKENS)))


@pytest.mark.parametrize("how", ["cast", "autocast"])
def test_bfloat16_is_near_float32(how: str) -> None:
    model = Decoder(replace(CONFIG, initializer_range=0.05), [2, 2])
    exact = model.loss(TOKENS, TARGETS)
    exact.backward()
    reference = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    model.zero_grad()
    if how == "cast":
        model.to(torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16, enabled=how == "autocast"):
        loss = model.loss(TOKENS, TARGETS)
    loss.backward()
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(exact.item(), rel=0.01)
    for name, parameter in model.named_parameters():
        difference = (parameter.grad.float() - reference[name]).norm() / reference[name].norm()
        assert difference < 0.05, (name, difference)


def test_state_of_a_cut_model_loads_into_another_cut() -> None:
    source, target = Decoder(CONFIG, [1, 3], seed=1), Decoder(CONFIG, [2, 1, 1], seed=2)
    assert target.load_state_dict(source.state_dict()).missing_keys == []
    assert torch.equal(target.logits(TOKENS), source.logits(TOKENS))
    incomplete = {k: v for k, v in source.state_dict().items() if k != "model.layers.2.mlp.up_proj.weight"}
    with pytest.raises(RuntimeError, match=r"missing: model.layers.2.mlp.up_proj.weight; unexpected: none"):
        target.load_state_dict(incomplete)
    assert target.load_state_dict(incomplete, strict=False).missing_keys == ["model.layers.2.mlp.up_proj.weight"]


def test_a_part_cannot_do_what_it_does_not_hold() -> None:
    with pytest.raises(ValueError, match="head: a tied head is the embedding matrix"):
        DecoderPart(replace(CONFIG, tied=True), [3], head=True)
    for layers in ([4], [-1], [1, 1]):
        with pytest.raises(ValueError, match="layers: expected different numbers between 0 and 3"):
            DecoderPart(CONFIG, layers)
    with pytest.raises(ValueError, match="embed: this part does not hold the embedding"):
        DecoderPart(CONFIG, [1]).embed(TOKENS)
    with pytest.raises(ValueError, match="logits: this part does not hold the head"):
        DecoderPart(CONFIG, [1]).logits(torch.zeros(1, 2, 32))
    for counts in ([], [1, 2], [5, -1]):
        with pytest.raises(ValueError, match="stage_layers: expected counts with sum 4"):
            Decoder(CONFIG, counts)


def test_a_decoder_learns_to_repeat_a_sequence() -> None:
    """Ten steps of plain gradient descent lower the loss on one batch, whatever the route."""
    model = Decoder(replace(CONFIG, tied=True, initializer_range=0.1), [1] * 4)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    first = model.loss(TOKENS, TARGETS).item()
    for step in range(10):
        optimizer.zero_grad()
        model.loss(TOKENS, TARGETS, [[0, 1, 2, 3], [0, 2, 3], [0, 2, 1, 3]][step % 3]).backward()
        optimizer.step()
    assert model.loss(TOKENS, TARGETS).item() < first - 1.0
