"""The typed-edge network against its definition, node by node; padding and the numbering of jobs do not matter."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from pathloom.learn.typed_edge_network import TypedEdgeNetwork, TypedEdgeShape  # noqa: E402

SHAPE = TypedEdgeShape(node_features=5, graph_features=3, width=6, hidden=8, rounds=2)
JOBS, OPERATIONS, MACHINES = 3, 3, 3


def network() -> TypedEdgeNetwork:
    torch.manual_seed(1)
    made = TypedEdgeNetwork(SHAPE).eval()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return made


def observation(seed: int, batch: int = 2) -> dict[str, torch.Tensor]:
    """Random states of shops of three jobs with three operations each, the first of some jobs being over."""
    rng = np.random.default_rng(seed)
    n = JOBS * OPERATIONS
    count = np.tile(np.arange(n), (batch, 1))
    active = np.ones((batch, n), dtype=bool)
    active[:, ::OPERATIONS] = rng.random((batch, JOBS)) < 0.5
    operation = np.where(active[:, ::OPERATIONS], count[:, ::OPERATIONS], count[:, 1::OPERATIONS])
    seen = {
        "nodes": rng.normal(size=(batch, n, SHAPE.node_features)).astype(np.float32),
        "graph": rng.normal(size=(batch, SHAPE.graph_features)).astype(np.float32),
        "before": np.where(count % OPERATIONS > 0, count - 1, -1).astype(np.int32),
        "after": np.where(count % OPERATIONS < OPERATIONS - 1, count + 1, -1).astype(np.int32),
        "group": rng.integers(MACHINES, size=(batch, n)).astype(np.int32),
        "active": active,
        "competing": rng.random((batch, n)) < 0.6,
        "asked": rng.random((batch, n)) < 0.4,
        "operation": operation.astype(np.int32),
    }
    return {name: torch.from_numpy(array) for name, array in seen.items()}


def node_by_node(net: TypedEdgeNetwork, seen: dict[str, torch.Tensor], b: int) -> tuple[list[float], float]:
    """Logits and value of graph `b` from the definition."""
    one = {name: array[b] for name, array in seen.items()}
    nodes = [o for o in range(len(one["active"])) if one["active"][o]]
    zero = torch.zeros(SHAPE.width)
    first = {o: net.read(one["nodes"][o]) for o in nodes}
    state = dict(first)

    def beside(o: int) -> list[int]:
        same = [k for k in nodes if k != o and one["group"][k] == one["group"][o]]
        return [k for k in same if one["competing"][k]]

    for each in net.rounds:
        pooled = torch.stack([state[o] for o in nodes]).mean(0)
        after = {}
        for o in nodes:
            before_o, after_o, others = int(one["before"][o]), int(one["after"][o]), beside(o)
            joined = torch.cat(
                (
                    each.before(state[before_o]) if before_o in state else zero,
                    each.after(state[after_o]) if after_o in state else zero,
                    each.beside(sum((state[k] for k in others), zero) / len(others) ** 0.5) if others else zero,
                    pooled,
                    one["graph"],
                    state[o],
                    first[o],
                )
            )
            after[o] = each.norm(state[o] + each.join(joined))
        state = after
    asked = [state[o] for o in nodes if one["asked"][o]]
    machine = torch.stack(asked).mean(0) if asked else zero
    context = torch.cat((torch.stack([state[o] for o in nodes]).mean(0), machine, one["graph"]))
    logits = []
    for o in one["operation"].tolist():
        following = int(one["after"][o])
        parts = (state.get(o, zero), first.get(o, zero), state.get(following, zero) if o in state else zero, context)
        logits.append(net.score(torch.cat(parts)).item())
    return [*logits, net.hold(context).item()], net.value(context).item()


@pytest.mark.parametrize("seed", range(6))
def test_scores_are_those_of_the_definition(seed: int) -> None:
    net, seen = network(), observation(seed)
    with torch.no_grad():
        logits, value = net(seen)
        for b in range(2):
            expected, expected_value = node_by_node(net, seen, b)
            np.testing.assert_allclose(logits[b].numpy(), expected, rtol=1e-4, atol=1e-5)
            assert value[b].item() == pytest.approx(expected_value, rel=1e-4, abs=1e-5)


def test_each_type_of_edge_matters() -> None:
    net, seen = network(), observation(0)
    with torch.no_grad():
        plain = net(seen)[0]
        for name, without in (
            ("before", torch.full_like(seen["before"], -1)),
            ("after", torch.full_like(seen["after"], -1)),
            ("competing", torch.zeros_like(seen["competing"])),
        ):
            assert not torch.allclose(plain, net({**seen, name: without})[0], atol=1e-4), name


def test_room_for_larger_shops_changes_nothing() -> None:
    net, seen = network(), observation(3)
    n, more = seen["active"].shape[1], 4
    wide = {}
    for name, array in seen.items():
        if name in ("graph", "operation"):
            wide[name] = array
            continue
        fill = torch.zeros((array.shape[0], more, *array.shape[2:]), dtype=array.dtype)
        wide[name] = torch.cat((array, fill - 1 if name in ("before", "after") else fill), 1)
    assert wide["active"].shape[1] == n + more
    with torch.no_grad():
        for ours, theirs in zip(net(seen), net(wide)):
            torch.testing.assert_close(ours, theirs)


def test_numbering_the_jobs_differently_permutes_the_scores() -> None:
    net, seen = network(), observation(4)
    order = [2, 0, 1]
    nodes = [job * OPERATIONS + k for job in order for k in range(OPERATIONS)]
    other = {
        name: array[:, nodes] if array.dim() > 1 and array.shape[1] == 9 else array for name, array in seen.items()
    }
    other["before"], other["after"] = seen["before"], seen["after"]
    step = seen["operation"] % OPERATIONS
    other["operation"] = (torch.arange(JOBS, dtype=torch.int32) * OPERATIONS)[None] + step[:, order]
    with torch.no_grad():
        logits, value = net(seen)
        theirs, their_value = net(other)
    torch.testing.assert_close(theirs[:, :JOBS], logits[:, order])
    torch.testing.assert_close(theirs[:, JOBS], logits[:, JOBS])
    torch.testing.assert_close(their_value, value)


def test_gradients_reach_every_weight() -> None:
    net, seen = network(), observation(5)
    logits, value = net(seen)
    (logits.square().sum() + value.square().sum()).backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name
