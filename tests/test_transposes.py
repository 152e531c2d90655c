"""Transposes in a compiled step: put off where nothing comes to depend on it."""

import pytest
import torch
from torch._decomp import get_decompositions
from torch.fx.experimental.proxy_tensor import make_fx

from sktorch.engine.transposes import put_off_transposes

A, B = torch.randn(2, 3, 4, 5).unbind()
C = torch.randn(3, 5, 4)
CONSTANT = torch.randn(3, 5, 4)
DECOMPOSITIONS = get_decompositions([torch.ops.aten.transpose.int])

# Functions of these tensors, and how many of their transposes are left.
CASES = {
    "an activation between two transposes": (lambda a, b, c: a.mT.relu().mT, 0),
    "several operations": (lambda a, b, c: (a.mT.tanh() * 2 + b.mT).exp().mT, 0),
    "a mask and its backward": (lambda a, b, c: torch.where(a.mT.relu() > 0, b.mT, 0.0).mT, 0),
    "two products": (lambda a, b, c: c @ (c.mT @ a.mT).relu(), 2),
    "axes counted from the end": (lambda a, b, c: a.permute(0, -1, 1).relu().permute(0, -1, 1), 0),
    "three axes in a cycle": (lambda a, b, c: a.permute(1, 2, 0).abs().permute(2, 0, 1), 0),
    "three axes, not taken back": (lambda a, b, c: a.permute(1, 2, 0).abs().permute(1, 2, 0), 2),
    "an operand that is not transposed": (lambda a, b, c: (a.mT + c).mT, 2),
    "transposes that differ": (lambda a, b, c: a.permute(1, 2, 0) * c.permute(2, 1, 0), 2),
    "an operand that is broadcast": (lambda a, b, c: (a.mT + b[:, :1].mT).mT, 3),
    "a constant": (lambda a, b, c: (a.mT * CONSTANT).mT, 2),
    "a number": (lambda a, b, c: (a.mT * b.sum()).mT, 0),
    "what is expanded": (lambda a, b, c: a[:, :, :1].expand(3, 4, 5).mT.tanh().mT, 2),
    "what goes by the strides": (
        lambda a, b, c: a[:, :, :1].expand(3, 4, 5).mT.tanh().as_strided((3, 20), (20, 1)) + 0,
        1,
    ),
    "a reduction": (lambda a, b, c: a.mT.relu().sum(1), 1),
    "a copy that is viewed in its order": (lambda a, b, c: a.mT.contiguous().view(3, 20), 1),
    "what is also used as it is": (lambda a, b, c: (a.mT.relu(), a.mT.relu().mT), 1),
}


@pytest.mark.parametrize("case", CASES)
def test_what_is_computed_stays_the_same(case):
    function, n_left = CASES[case]
    trace = make_fx(
        function,
        tracing_mode="fake",
        decomposition_table=DECOMPOSITIONS,
        _allow_non_fake_inputs=True,
    )
    graph = trace(A, B, C)
    put_off_transposes(graph)
    torch.testing.assert_close(graph(A, B, C), function(A, B, C), rtol=0, atol=0)
    assert graph.code.count("aten.permute") == n_left
