"""Products of matrices in a compiled step: the same numbers, as sums where they are small."""

from functools import partial

import pytest
import torch
from torch.fx.experimental.proxy_tensor import make_fx

from sktorch.engine.products import PRODUCTS, product


def matrices(n_rows, n_terms, n_columns, dtype=torch.float32):
    """Return what is added, and two matrices to be multiplied."""
    draw = partial(torch.randn, dtype=dtype, generator=torch.Generator().manual_seed(0))
    return draw(n_rows, n_columns), draw(n_rows, n_terms), draw(n_columns, n_terms).mT


# Matrices, and whether their product is a small one.
CASES = {
    "two outputs of a net": (matrices(64, 100, 2), True),
    "the gradient of their weights": (matrices(2, 64, 100), True),
    "the gradient of what they are of": (matrices(64, 2, 100), True),
    "one output": (matrices(64, 100, 1), True),
    "more outputs": (matrices(64, 100, 10), False),
    "two outputs in float64": (matrices(64, 100, 2, torch.float64), False),
    "two inputs in float64": (matrices(64, 2, 100, torch.float64), True),
    "two outputs in bfloat16": (matrices(64, 100, 2, torch.bfloat16), False),
    "two inputs in bfloat16": (matrices(64, 2, 100, torch.bfloat16), True),
    "hidden layers": (matrices(64, 100, 100), False),
    "few rows of a wide layer": (matrices(4, 1024, 1024), False),
    "many terms": (matrices(2, 10_000, 10), True),
    "no rows": (matrices(0, 5, 5), True),
}


def with_one_row(function):
    """Return a product to which the same is added in each row."""
    return lambda added, a, b: function(added[..., :1, :], a, b)


FUNCTIONS = {
    "mm": (lambda _, a, b: torch.mm(a, b), ()),
    "addmm": (torch.addmm, ()),
    "addmm, transposed": (lambda c, a, b: torch.addmm(c.mT, b.mT, a.mT), ()),
    "addmm of a row": (with_one_row(torch.addmm), ()),
    "bmm": (lambda _, a, b: torch.bmm(a, b), (3,)),
    "baddbmm": (torch.baddbmm, (3,)),
    "baddbmm of a row": (with_one_row(torch.baddbmm), (3,)),
}


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("case", CASES)
def test_a_product_is_a_sum_where_it_is_small_and_the_same_number_always(case, name):
    function, n_members = FUNCTIONS[name]
    given, is_small = CASES[case]
    given = [tensor.expand(*n_members, *tensor.shape) for tensor in given]
    table = {op: partial(product, op, None) for op in PRODUCTS}
    graph = make_fx(function, tracing_mode="fake", decomposition_table=table)(*given)
    assert ("mm" in graph.code) != is_small
    computed, expected = graph(*given), function(*given)
    assert computed.dtype == expected.dtype
    assert computed.stride() == expected.stride()
    # Each term of about 1 is rounded as the sum, which is of about the root of their number.
    eps, n_terms = torch.finfo(expected.dtype).eps, given[1].shape[-1]
    torch.testing.assert_close(computed, expected, rtol=4 * eps, atol=eps * max(8, n_terms))


def test_a_product_that_is_scaled_stays_one():
    table = {op: partial(product, op, None) for op in PRODUCTS}
    given = CASES["one output"][0]
    scaled = make_fx(partial(torch.addmm, alpha=2, beta=3), decomposition_table=table)(*given)
    assert "addmm" in scaled.code
    torch.testing.assert_close(scaled(*given), torch.addmm(*given, alpha=2, beta=3))
