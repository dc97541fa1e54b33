"""Small classifiers, many of them in one computation: weights per model, the same inputs for all models.

A weight has shape (models, out, in), activations (models, features, positions, samples): with the samples innermost the
windows of a convolution are copies of whole rows, and every layer is one batched matrix product. On one thread this is
about twice as fast as a grouped `conv1d`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor


class StackedNetwork(Protocol):
    """A classifier whose parameters carry a leading model axis."""

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        """Shape of each parameter of one model: weight (out, in) and bias (out, 1) in turn."""

    def logits(self, parameters: Sequence[Tensor], inputs: Tensor) -> Tensor:
        """Logits of shape (models, classes, samples) for inputs of shape (samples, features)."""


@dataclass(frozen=True)
class SmallConvNet:
    """Three convolutions with stride 2 (kernels 5, 3, 3, padding 1), rectified, and a linear head.

    Attributes
    ----------
    length, channels, classes
        Points of the signal, width of each convolution, number of classes.
    """

    length: int = 40
    channels: int = 24
    classes: int = 10

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        wide, left = self.channels, self.length
        for kernel in (5, 3, 3):
            left = (left + 2 - kernel) // 2 + 1
        inputs = (5, 3 * wide, 3 * wide, left * wide)
        outputs = (wide, wide, wide, self.classes)
        return [shape for into, out in zip(inputs, outputs, strict=True) for shape in ((out, into), (out, 1))]

    def logits(self, parameters: Sequence[Tensor], inputs: Tensor) -> Tensor:
        """Logits; see `StackedNetwork`."""
        samples = len(inputs)
        hidden = inputs.T.reshape(1, 1, self.length, samples)
        for layer, kernel in enumerate((5, 3, 3)):
            weight, bias = parameters[2 * layer], parameters[2 * layer + 1]
            hidden = _RectifiedConvolution.apply(hidden, weight, bias, kernel)  # type: ignore[no-untyped-call]
        return torch.baddbmm(parameters[7], parameters[6], hidden.flatten(1, 2))


@dataclass(frozen=True)
class SmallPerceptron:
    """One hidden layer, rectified.

    Attributes
    ----------
    inputs, hidden, classes
        Features of a sample, width of the hidden layer, number of classes.
    """

    inputs: int
    hidden: int = 32
    classes: int = 10

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        return [(self.hidden, self.inputs), (self.hidden, 1), (self.classes, self.hidden), (self.classes, 1)]

    def logits(self, parameters: Sequence[Tensor], inputs: Tensor) -> Tensor:
        """Logits; see `StackedNetwork`."""
        hidden = _product(parameters[0], inputs.T[None], parameters[1]).relu()
        return torch.baddbmm(parameters[3], parameters[2], hidden)


def initial_parameters(network: StackedNetwork, models: int, seed: int) -> Tensor:
    """Parameters of shape (models, parameters), all models alike: uniform within 1/sqrt(inputs), torch's own
    default."""
    generator = torch.Generator().manual_seed(seed)
    drawn: list[Tensor] = []
    shapes = network.shapes
    for weight, bias in zip(shapes[::2], shapes[1::2], strict=True):
        reach = 1.0 / math.sqrt(weight[1])
        drawn += [(2.0 * torch.rand(math.prod(shape), generator=generator) - 1.0) * reach for shape in (weight, bias)]
    return torch.cat(drawn).repeat(models, 1)


def as_leaves(network: StackedNetwork, stacked: Tensor) -> list[Tensor]:
    """Parameters of the network as leaves of autograd that share the memory of `stacked` (models, parameters)."""
    leaves, at = [], 0
    for shape in network.shapes:
        size = math.prod(shape)
        leaves.append(stacked[:, at : at + size].view(-1, *shape).detach().requires_grad_())
        at += size
    if at != stacked.shape[1]:
        raise ValueError(f"the network has {at} parameters, the stack {stacked.shape[1]} a model")
    return leaves


def _product(weight: Tensor, columns: Tensor, bias: Tensor) -> Tensor:
    """Weight times columns plus bias; columns of shape (1, in, n) are shared by all models in one matrix product."""
    if len(columns) == len(weight):
        return torch.baddbmm(bias, weight, columns)
    models, out, into = weight.shape
    return torch.addmm(bias.reshape(-1, 1), weight.reshape(models * out, into), columns[0]).view(models, out, -1)


class _RectifiedConvolution(torch.autograd.Function):
    """Convolution with stride 2 and padding 1, rectified: (models or 1, channels, length, samples) and weights.

    Its own derivative, because the generic one of a gather of windows fills and adds an array of the size of the
    activations for every tap, which takes longer than the matrix products.
    """

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor, kernel: int) -> Tensor:
        models, channels, length, samples = hidden.shape
        count = (length + 2 - kernel) // 2 + 1
        columns = hidden.new_empty(models, kernel, channels, count, samples)
        for tap in range(kernel):
            # window j reads position 2j + tap - 1; `first` and `last` windows of this tap lie inside the signal
            first, last = (1 if tap == 0 else 0), min(count, (length - tap) // 2 + 1)
            target = columns[:, tap]
            target[:, :, :first] = 0.0
            target[:, :, last:] = 0.0
            target[:, :, first:last] = hidden[:, :, 2 * first + tap - 1 : 2 * last + tap - 2 : 2]
        flat = columns.view(models, kernel * channels, count * samples)
        result = _product(weight, flat, bias).relu_()
        ctx.save_for_backward(flat, weight, result)
        ctx.shape, ctx.kernel = hidden.shape, kernel
        return result.view(len(weight), -1, count, samples)

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor | None, Tensor, Tensor, None]:
        columns, weight, result = ctx.saved_tensors
        slope = torch.ops.aten.threshold_backward(slopes[0].reshape(result.shape), result, 0.0)
        if len(columns) == len(weight):
            of_weight = torch.bmm(slope, columns.transpose(1, 2))
        else:
            of_weight = torch.mm(slope.flatten(0, 1), columns[0].T).view_as(weight)
        of_bias = slope.sum(2, keepdim=True)
        if not ctx.needs_input_grad[0]:
            return None, of_weight, of_bias, None
        models, channels, length, samples = ctx.shape
        kernel = ctx.kernel
        windows = torch.bmm(weight.transpose(1, 2), slope).view(models, kernel, channels, -1, samples)
        count = windows.shape[3]
        of_hidden = slope.new_zeros(ctx.shape)
        for tap in range(kernel):
            first, last = (1 if tap == 0 else 0), min(count, (length - tap) // 2 + 1)
            of_hidden[:, :, 2 * first + tap - 1 : 2 * last + tap - 2 : 2] += windows[:, tap, :, first:last]
        return of_hidden, of_weight, of_bias, None
