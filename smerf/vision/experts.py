"""Expert layers: every token goes to a few of many MLPs.

``SwitchExperts`` (arXiv 2101.03961) sends a token to one expert that takes a limited number of them; ``GatedExperts``
(Mixtral, arXiv 2401.04088) sends it to the best k.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from smerf.vision.blocks import projection

__all__ = ["GatedExperts", "SwitchExperts", "balance_loss"]


def balance_loss(probabilities: Tensor, chosen: Tensor) -> Tensor:
    """Return how unevenly tokens are spread: experts * sum of (share of tokens * mean probability); 1 when even.

    Args:
        probabilities: (..., E), of every token.
        chosen: The expert of each token, (...) int64.
    """
    experts = probabilities.shape[-1]
    share = functional.one_hot(chosen, experts).to(probabilities.dtype).flatten(0, -2).mean(0)
    return experts * (share * probabilities.flatten(0, -2).mean(0)).sum()


class SwitchExperts(nn.Module):
    """Top-1 experts with a capacity.

    Args:
        width: Of the tokens.
        hidden: Of each expert.
        experts: Their number E.
        capacity: Tokens of one sequence that an expert takes, in order; what comes later gets 0.
    """

    def __init__(self, width: int, hidden: int, experts: int, capacity: int) -> None:
        super().__init__()
        self.capacity = capacity
        self.router = projection(width, experts)
        self.experts = nn.ModuleList(
            nn.Sequential(projection(width, hidden), nn.ReLU(), projection(hidden, width))
            for _ in range(experts)
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, int]:
        """Send tokens (B, N, D) through their experts.

        Returns:
            Outputs (B, N, D) times the expert's probability, the balance loss (), and how many tokens found their
            expert full.
        """
        # In float32: small differences of logits decide.
        kind = torch.promote_types(x.dtype, torch.float32)
        weight = self.router.weight.to(kind)
        probabilities = torch.softmax(functional.linear(x.to(kind), weight), -1)
        best, chosen = probabilities.max(-1)
        order = functional.one_hot(chosen, len(self.experts)).cumsum(1).gather(-1, chosen[..., None])[..., 0]
        fits = order <= self.capacity
        result = torch.zeros_like(x)
        for index, expert in enumerate(self.experts):
            taken = (chosen == index) & fits
            result[taken] = expert(x[taken]) * best[taken].to(x.dtype)[:, None]
        return result, balance_loss(probabilities, chosen), int((~fits).sum())


class GatedExperts(nn.Module):
    """The best k of E gated MLPs, down(silu(gate x) * up x), weighted by the router.

    ``gate_up`` (E, 2 hidden, D) holds the gates first; ``down`` is (E, D, hidden).
    """

    def __init__(self, width: int, hidden: int, experts: int, top: int = 2) -> None:
        super().__init__()
        self.top = top
        self.router = projection(width, experts)
        self.gate_up = nn.Parameter(torch.randn(experts, 2 * hidden, width) * width**-0.5)
        self.down = nn.Parameter(torch.randn(experts, width, hidden) * hidden**-0.5)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Send tokens (B, N, D) through their experts; returns outputs (B, N, D) and the balance loss ()."""
        tokens = x.flatten(0, 1)
        logits = self.router(tokens)
        # Over all experts first: the weights of the best are then shared out among them.
        probabilities = torch.softmax(logits, -1, dtype=torch.promote_types(x.dtype, torch.float32))
        weights, chosen = probabilities.topk(self.top, -1)
        weights = weights / weights.sum(-1, keepdim=True)
        result = torch.zeros_like(tokens)
        for index in range(len(self.down)):
            row, rank = torch.where(chosen == index)
            gate, up = functional.linear(tokens[row], self.gate_up[index]).chunk(2, -1)
            read = functional.linear(functional.silu(gate) * up, self.down[index])
            result.index_add_(0, row, (read * weights[row, rank, None]).to(result.dtype))
        return result.view_as(x), balance_loss(probabilities, chosen[:, 0])
