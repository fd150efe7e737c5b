"""Which part of an order a bar fills, at the brokers that move no money. Pure."""

import math

from hftcl.ledger.account import DECIMALS


def compute_portion(wanted: float, available: float) -> float:
    """Return how much of `wanted` shares fills: what is available, whole shares for an order of whole shares."""
    if wanted <= available:
        return wanted
    scale = 1.0 if wanted.is_integer() else 10.0**DECIMALS
    return max(0.0, math.floor(available * scale) / scale)
