"""A graph network for schedules that learns a separate sum for every type of edge.

The encoder of J. Park, J. Chun, S. H. Kim, Y. Kim, J. Park, "Learning to schedule job-shop problems: representation and
policy learning using graph neural network and reinforcement learning" (IJPR 59(11), 2021, arXiv 2106.01086), which
"Generating Dispatching Rules for the Interrupting Swap-Allowed Blocking Job Shop Problem ..." (arXiv 2302.02506) takes
over: in each round a node reads the operations before it, those after it and those that compete for its machine, each
through a network of its own, the whole graph, its own last state, and its own features.

Departures: the pool over the whole graph is a mean, and the sum over competitors is divided by the square root of their
number, so that a network trained on small shops reads large ones; the networks are smaller (the paper's have two layers
of 256); each round adds to the last state and normalises it; an operation also reads the load of its machine. The score
of an action reads the operation that the job does next, that of holding the machine empty what its machine waits for.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class TypedEdgeShape:
    """Sizes of a `TypedEdgeNetwork`.

    Attributes
    ----------
    node_features, graph_features
        Numbers of features of a node and of the whole graph.
    width
        Size of a node's state.
    hidden
        Width of the hidden layers.
    rounds
        Rounds of messages; each has its own weights.
    """

    node_features: int
    graph_features: int
    width: int = 16
    hidden: int = 32
    rounds: int = 2


def _perceptron(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, outputs))


class PackedGraphs:
    """The active nodes of a batch of graphs one after another, P in all, and their three types of edges.

    Most operations of a shop are over for half of the time; packed, they cost nothing.

    Parameters
    ----------
    before_node, after_node
        Shape (B, N): the operation before and after each one in its job, -1 for none; one that is over is no neighbour.
    group
        Shape (B, N): machine of each operation, from 0.
    active, competing
        Shape (B, N): whether the operation is still in the graph, and whether it competes for its machine now.
    """

    def __init__(
        self, before_node: Tensor, after_node: Tensor, group: Tensor, active: Tensor, competing: Tensor
    ) -> None:
        self.graphs, self.nodes = active.shape
        self.where = active.flatten().nonzero()[:, 0]
        self.packed = len(self.where)
        # Where there is no such node, a row of zeros behind the last one is read.
        self.place = self.where.new_full((self.graphs * self.nodes + 1,), self.packed)
        self.place[self.where] = torch.arange(self.packed, device=self.where.device)
        self.graph = self.where // self.nodes
        self.count = self.where.new_zeros(self.graphs).index_add(0, self.graph, torch.ones_like(self.graph))
        self.before_row = self._neighbour(before_node)
        self.after_row = self._neighbour(after_node)
        machines = int(group.max()) + 1 if group.numel() else 1
        self.machine = self.graph * machines + group.flatten()[self.where].long()
        self.machines = self.graphs * machines
        self.competing = competing.flatten()[self.where][:, None].float()
        others = self._machine_sum(self.competing) - self.competing
        self.has_before = (self.before_row < self.packed)[:, None].float()
        self.has_after = (self.after_row < self.packed)[:, None].float()
        self.has_beside = (others > 0.5).float()
        self.root = others.clamp(min=1.0).sqrt()

    def _neighbour(self, node: Tensor) -> Tensor:
        number = node.flatten()[self.where].long()
        absent = self.graphs * self.nodes
        return self.place[torch.where(number >= 0, self.graph * self.nodes + number, absent)]

    def _machine_sum(self, values: Tensor) -> Tensor:
        """Sum over the nodes of each node's machine, at the node."""
        sums = values.new_zeros(self.machines, values.shape[1]).index_add(0, self.machine, values)
        return sums[self.machine]

    def pack(self, values: Tensor) -> Tensor:
        """Rows (P, F) of the active nodes from (B, N, F)."""
        return values.flatten(0, 1)[self.where]

    def pooled(self, state: Tensor) -> Tensor:
        """Mean over the nodes of each graph, (B, width)."""
        sums = state.new_zeros(self.graphs, state.shape[1]).index_add(0, self.graph, state)
        return sums / self.count.clamp(min=1)[:, None]

    def before(self, state: Tensor) -> Tensor:
        """State of the operation before each one, 0 where there is none."""
        return _with_zeros(state)[self.before_row]

    def after(self, state: Tensor) -> Tensor:
        """State of the operation after each one."""
        return _with_zeros(state)[self.after_row]

    def beside(self, state: Tensor) -> Tensor:
        """Sum over the others that compete for the same machine, by the square root of their number."""
        own = state * self.competing
        return (self._machine_sum(own) - own) / self.root

    def at(self, state: Tensor, node: Tensor) -> Tensor:
        """States (B, K, width) of nodes (B, K) of each graph; 0 for nodes that are not active."""
        offset = torch.arange(self.graphs, device=node.device)[:, None] * self.nodes
        return _with_zeros(state)[self.place[node.long() + offset]]


def _with_zeros(state: Tensor) -> Tensor:
    return torch.cat((state, state.new_zeros(1, state.shape[1])))


class TypedEdgeRound(nn.Module):
    """One round of messages over three types of edges."""

    def __init__(self, width: int, hidden: int, graph_features: int) -> None:
        super().__init__()
        self.before = _perceptron(width, hidden, width)
        self.after = _perceptron(width, hidden, width)
        self.beside = _perceptron(width, hidden, width)
        self.join = _perceptron(6 * width + graph_features, 2 * hidden, width)
        self.norm = nn.LayerNorm(width)

    def forward(self, state: Tensor, first: Tensor, features: Tensor, graphs: PackedGraphs) -> Tensor:
        """The next states (P, width) from the last ones, the first ones, and the graphs' features (B, G)."""
        whole = torch.cat((graphs.pooled(state), features), -1)[graphs.graph]
        joined = torch.cat(
            (
                self.before(graphs.before(state)) * graphs.has_before,
                self.after(graphs.after(state)) * graphs.has_after,
                self.beside(graphs.beside(state)) * graphs.has_beside,
                whole,
                state,
                first,
            ),
            -1,
        )
        out: Tensor = self.norm(state + self.join(joined))
        return out


class TypedEdgeNetwork(nn.Module):
    """Scores of the jobs that a machine could take, of holding it empty, and the value of the state.

    Reads the observation of `pathloom.worlds.shop.online.policy.FloorEnvironment`, or any with the same entries.
    """

    def __init__(self, shape: TypedEdgeShape) -> None:
        super().__init__()
        self.shape = shape
        width, hidden, graph = shape.width, shape.hidden, shape.graph_features
        self.read = _perceptron(shape.node_features, hidden, width)
        self.rounds = nn.ModuleList(TypedEdgeRound(width, hidden, graph) for _ in range(shape.rounds))
        context = 2 * width + graph
        self.score = _perceptron(3 * width + context, 2 * hidden, 1)
        self.hold = _perceptron(context, 2 * hidden, 1)
        self.value = _perceptron(context, 2 * hidden, 1)
        with torch.no_grad():  # begin with all actions nearly alike, and a value near 0
            for head in (self.score, self.hold, self.value):
                for parameter in head[2].parameters():
                    parameter.mul_(0.1)

    def forward(self, seen: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Logits (B, jobs + 1), the last one of holding, and value (B,).

        Parameters
        ----------
        seen
            "nodes" (B, N, F); "graph" (B, G); "before", "after", "group" (B, N); "active", "competing" (B, N) bool;
            "operation" (B, jobs): node that each job does next (any where there is none, then masked out); "asked"
            (B, N) bool: operations that wait for, or come to, the machine that is to take a job.
        """
        graphs = PackedGraphs(seen["before"], seen["after"], seen["group"], seen["active"], seen["competing"])
        features = seen["graph"]
        first = self.read(graphs.pack(seen["nodes"]))
        state = first
        for each in self.rounds:
            state = each(state, first, features, graphs)
        asked = graphs.pack(seen["asked"][..., None]).float()
        machine = graphs.pooled(state * asked) / graphs.pooled(asked).clamp(min=1e-6)
        context = torch.cat((graphs.pooled(state), machine, features), -1)

        jobs = seen["operation"].shape[1]
        read = torch.cat(
            (
                graphs.at(state, seen["operation"]),
                graphs.at(first, seen["operation"]),
                graphs.at(graphs.after(state), seen["operation"]),
                context[:, None].expand(-1, jobs, -1),
            ),
            -1,
        )
        logits = torch.cat((self.score(read)[..., 0], self.hold(context)), -1)
        return logits, self.value(context)[:, 0]
