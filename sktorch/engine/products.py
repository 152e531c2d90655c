"""Small products of matrices as sums, which a program computes where they are used.

A library that multiplies matrices takes as long to begin as such a product takes.
"""

import torch

__all__ = ["PRODUCTS", "product"]

# Terms, and rows or columns of a result, up to which a sum takes less.
_FEW = 4

# Multiplications in a product of few rows or columns up to which that is so.
_LITTLE = 2**18


def _sum(a, b):
    return (a.unsqueeze(-1) * b.unsqueeze(-3)).sum(-2, dtype=a.dtype)


def _added_sum(c, a, b):
    return _sum(a, b) + c


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
    if a.shape[-1] <= _FEW:
        return True
    *_, n_rows, n_terms = a.shape
    n_columns = b.shape[-1]
    few_rows = min(n_rows, n_columns) <= _FEW and n_rows * n_terms * n_columns <= _LITTLE
    # In other dtypes sums of many terms are slower than products, or less exact.
    return few_rows and a.dtype is torch.float32
