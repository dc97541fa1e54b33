"""A split backward pass gives the gradients of an ordinary one, to the last bit, also when microbatches interleave."""

from __future__ import annotations

import gc
import weakref
from dataclasses import replace

import pytest

torch = pytest.importorskip("torch")

from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from pathloom.learn.language_model.config import LanguageModelConfig  # noqa: E402
from pathloom.learn.language_model.decoder import DecoderPart  # noqa: E402
from pathloom.learn.language_model.weight_gradients import DeferredWeightGradients, SplitLinear  # noqa: E402

CONFIG = LanguageModelConfig(
    dim=32, layers=2, heads=4, kv_heads=2, ffn_dim=48, context=16, vocab=61, initializer_range=0.2
)
MICROBATCHES = torch.randint(0, 61, (4, 2, 17), generator=torch.Generator().manual_seed(1))


def parts(*, split: bool, tied: bool = False) -> tuple[DecoderPart, DecoderPart]:
    """Stage 0 (embedding, a layer, the head) and stage 1 (a layer)."""
    config = replace(CONFIG, tied=tied)
    made = DecoderPart(config, [0], embedding=True, head=True), DecoderPart(config, [1])
    for part in made:
        part.split_backward = split
    return made


def flat_gradients(part: DecoderPart) -> torch.Tensor:
    """Make every `.grad` a view into one buffer, as the training runtime does; started with values of its own."""
    buffer = torch.linspace(-1, 1, sum(p.numel() for p in part.parameters()))
    start = 0
    for parameter in part.parameters():
        parameter.grad = buffer[start : start + parameter.numel()].view_as(parameter)
        start += parameter.numel()
    return buffer


class Pass:
    """One microbatch's way through stage 0, stage 1, the head, each with a graph of its own as between processes."""

    def __init__(self, first: DecoderPart, second: DecoderPart, tokens: torch.Tensor) -> None:
        self.first_output = first(first.embed(tokens[:, :-1]))
        self.second_input = self.first_output.detach().requires_grad_()
        self.second_output = second(self.second_input)
        self.head_input = self.second_output.detach().requires_grad_()
        self.loss = first.loss(self.head_input, tokens[:, 1:])

    def backward(self) -> None:
        self.loss.backward()
        torch.autograd.backward(self.second_output, self.head_input.grad)
        torch.autograd.backward(self.first_output, self.second_input.grad)


def ordinary(tied: bool, order: list[int], autocast: bool = False) -> list[torch.Tensor]:
    model = parts(split=False, tied=tied)
    buffers = [flat_gradients(part) for part in model]
    for i in order:
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            microbatch = Pass(*model, MICROBATCHES[i])
        microbatch.backward()
    return buffers


@settings(deadline=None, max_examples=15)
@given(st.booleans(), st.integers(1, 4), st.integers(1, 4))
def test_interleaved_weight_passes_add_up_to_ordinary_gradients(tied: bool, microbatches: int, lag: int) -> None:
    """The weight pass of a microbatch follows `lag` input passes later."""
    model = parts(split=True, tied=tied)
    buffers = [flat_gradients(part) for part in model]
    passes = [Pass(*model, MICROBATCHES[i]) for i in range(microbatches)]
    stores = [DeferredWeightGradients() for _ in passes]
    for i in range(microbatches + lag):
        if i < microbatches:
            with stores[i]:
                passes[i].backward()
            assert len(stores[i]) == 14 + (not tied)
        if i >= lag:
            stores[i - lag].compute()
            assert len(stores[i - lag]) == stores[i - lag].bytes == 0
    for buffer, expected in zip(buffers, ordinary(tied, list(range(microbatches)))):
        assert torch.equal(buffer, expected)


def test_gradients_are_added_into_the_tensor_that_is_there() -> None:
    model = parts(split=True)
    buffers = [flat_gradients(part) for part in model]
    places = [p.grad.data_ptr() for part in model for p in part.parameters()]
    with (store := DeferredWeightGradients()):
        Pass(*model, MICROBATCHES[0]).backward()
    store.compute()
    assert places == [p.grad.data_ptr() for part in model for p in part.parameters()]
    assert places[0] == buffers[0].data_ptr()


def test_without_earlier_gradients_they_are_made() -> None:
    split, plain = parts(split=True), parts(split=False)
    Pass(*plain, MICROBATCHES[0]).backward()
    with (store := DeferredWeightGradients()):
        Pass(*split, MICROBATCHES[0]).backward()
    assert {name for name, p in split[1].named_parameters() if p.grad is not None} == {
        "model.layers.1.input_layernorm.weight",
        "model.layers.1.post_attention_layernorm.weight",
    }
    store.compute()
    for one, other in zip(split, plain):
        for (name, a), (_, b) in zip(one.named_parameters(), other.named_parameters()):
            assert torch.equal(a.grad, b.grad), name


def test_without_a_store_the_backward_pass_is_the_ordinary_one() -> None:
    model = parts(split=True)
    buffers = [flat_gradients(part) for part in model]
    Pass(*model, MICROBATCHES[0]).backward()
    for buffer, expected in zip(buffers, ordinary(False, [0])):
        assert torch.equal(buffer, expected)


def test_one_store_adds_the_gradients_of_several_passes_in_their_order() -> None:
    model = parts(split=True)
    buffers = [flat_gradients(part) for part in model]
    store = DeferredWeightGradients()
    for i in (2, 0, 3):
        with store:
            Pass(*model, MICROBATCHES[i]).backward()
    store.compute()
    for buffer, expected in zip(buffers, ordinary(False, [2, 0, 3])):
        assert torch.equal(buffer, expected)


@pytest.mark.parametrize("tied", [False, True])
def test_a_pass_that_does_not_count_leaves_every_gradient_alone(tied: bool) -> None:
    model, plain = parts(split=True, tied=tied), parts(split=False, tied=tied)
    buffers = [flat_gradients(part) for part in model]
    before = [buffer.clone() for buffer in buffers]
    repeated, once = Pass(*model, MICROBATCHES[0]), Pass(*plain, MICROBATCHES[0])
    with (store := DeferredWeightGradients(count=False)):
        repeated.backward()
    store.compute()
    once.backward()
    assert len(store) == 0
    assert all(torch.equal(now, then) for now, then in zip(buffers, before))
    assert torch.equal(repeated.head_input.grad, once.head_input.grad)
    assert torch.equal(repeated.second_input.grad, once.second_input.grad)


def test_a_pass_that_does_not_count_makes_no_gradients() -> None:
    model = parts(split=True)
    with DeferredWeightGradients(count=False):
        Pass(*model, MICROBATCHES[0]).backward()
    assert all(p.grad is None for part in model for p in part.parameters())


def test_discarded_weight_gradients_are_not_added() -> None:
    model = parts(split=True)
    with (store := DeferredWeightGradients()):
        Pass(*model, MICROBATCHES[0]).backward()
    assert store.bytes > 0
    store.discard()
    store.compute()
    assert model[1].model.layers["1"].mlp.up_proj.weight.grad is None


def test_a_store_is_active_only_inside_its_block() -> None:
    layer = SplitLinear(3, 2)
    layer.split_backward = True
    torch.nn.init.ones_(layer.weight)
    store = DeferredWeightGradients()
    with pytest.raises(KeyError), store:
        raise KeyError
    layer(torch.ones(1, 3)).sum().backward()
    assert len(store) == 0 and torch.equal(layer.weight.grad, torch.ones(2, 3))


def test_the_store_does_not_keep_the_forward_pass_alive() -> None:
    class Mark:
        pass

    layer = SplitLinear(3, 3)
    layer.split_backward = True
    torch.nn.init.ones_(layer.weight)
    x = torch.ones(2, 3, requires_grad=True).exp()
    mark = Mark()
    x.grad_fn.metadata["mark"] = mark
    graph = weakref.ref(mark)
    with (store := DeferredWeightGradients()):
        layer(x).sum().backward()
    del x, mark
    gc.collect()
    assert graph() is None and len(store) == 1


@pytest.mark.parametrize("autocast", [False, True])
def test_in_autocast_too_the_split_is_exact(autocast: bool) -> None:
    model = parts(split=True)
    buffers = [flat_gradients(part) for part in model]
    for i in (0, 1):
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            microbatch = Pass(*model, MICROBATCHES[i])
        with (store := DeferredWeightGradients()):
            microbatch.backward()
        store.compute()
    for buffer, expected in zip(buffers, ordinary(False, [0, 1], autocast)):
        assert torch.equal(buffer, expected)
