"""Which tokens a microbatch has: a function of its position in the data, so that any node can read any microbatch."""

from __future__ import annotations

import torch

from pathloom.data.token_files import TokenData, Windows


class Batches:
    """Microbatches of a token data set.

    Parameters
    ----------
    split
        "train" or "validation".
    context, samples
        Tokens of a sample, samples of a microbatch.
    seed
        Seed of the order of the windows.
    """

    def __init__(self, data: TokenData, split: str, *, context: int, samples: int, seed: int) -> None:
        self.windows = Windows(data.split(split), context, seed)
        self.samples = samples

    def __len__(self) -> int:
        """Whole microbatches of one pass over the data."""
        return len(self.windows) // self.samples

    def microbatch(self, first_window: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Tokens and their successors, shape (samples, context) each, of the windows from `first_window` on."""
        rows = [torch.from_numpy(self.windows.window(first_window + j)) for j in range(self.samples)]
        both = torch.stack(rows)
        return both[:, :-1], both[:, 1:]
