"""Small products of matrices as sums, which a program computes where they are used.

A library that multiplies matrices takes as long to begin as such a product takes.
"""

import torch

__all__ = ["PRODUCTS", "product"]

# Terms, and rows or columns of a result, up to which a sum takes less.
_FEW = 4


def _sum(a, b):
    return (a.unsqueeze(-1) * b.unsqueeze(-3)).sum(-2, dtype=a.dtype)


def _added_sum(c, a, b):
    return c + _sum(a, b)


# The operations that multiply matrices, and what computes the same.
PRODUCTS = {
    torch.ops.aten.mm.default: _sum,
    torch.ops.aten.bmm.default: _sum,
    torch.ops.aten.addmm.default: _added_sum,
    torch.ops.aten.baddbmm.default: _added_sum,
}


def product(op, usual, *operands, **scales):
    """Decompose one of ``PRODUCTS``: a small one on a CPU as a sum, others as usual.

    Parameters
    ----------
    op : OpOverload
    usual : callable or None
        Its decomposition otherwise.
    *operands : Tensor
        The last two are the matrices.
    **scales : float
        Of what is added, where they are not 1.
    """
    *_, a, b = operands
    if a.device.type == "cpu" and not scales and _is_small(a, b):
        return PRODUCTS[op](*operands)
    return NotImplemented if usual is None else usual(*operands, **scales)


def _is_small(a, b):
    few_rows = min(a.shape[-2], b.shape[-1]) <= _FEW
    # In float64 sums of many terms are slower than products.
    return a.shape[-1] <= _FEW or (few_rows and a.dtype is torch.float32)
