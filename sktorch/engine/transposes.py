"""Transposes of a traced graph, put off until something is computed that they matter to."""

import torch
from torch.fx import map_arg

__all__ = ["put_off_transposes"]

_permute = torch.ops.aten.permute.default
_alias = torch.ops.aten.alias.default

# What is asked to lie in memory in an order of its own may be viewed in that order.
_clone = torch.ops.aten.clone.default


def put_off_transposes(graph):
    """Let what goes element by element be computed in the layout that its inputs have.

    ``relu(x.mT)`` becomes ``relu(x).mT``, the same numbers. Inductor writes what it computes in the
    order of its axes, and to turn a matrix takes several times as long as the operation; of two
    products of matrices with an activation between them the transposes now meet and cancel.

    Parameters
    ----------
    graph : GraphModule
        That changes nothing but its inputs, at its end. Changed in place.
    """
    for node in [node for node in graph.graph.nodes if node.op == "call_function"]:
        if _is_permute(node):
            _cancel(node)
        elif _is_by_element(node):
            _put_off(node)
    graph.graph.eliminate_dead_code()
    graph.recompile()


def _cancel(node):
    """Take out a transpose that takes back the one before."""
    before = node.args[0]
    if _is_permute(before) and _axes(before) == _inverse(_axes(node)):
        node.replace_all_uses_with(before.args[0])


def _put_off(node):
    """Compute on what inputs were before their transpose, and transpose the result."""
    inputs = [each for each in node.all_input_nodes if not _is_number(each)]
    if not inputs or not all(map(_is_permute, inputs)):
        return
    shapes = {each.meta["val"].shape for each in inputs}
    if len(shapes) > 1 or len({*map(_axes, inputs)}) > 1:
        return
    axes, graph, value = _axes(inputs[0]), node.graph, node.meta["val"]
    before = {each: each.args[0] if each in inputs else each for each in node.all_input_nodes}
    if not all("val" in each.meta for each in before.values()):
        return
    args, kwargs = map_arg((node.args, node.kwargs), lambda each: before[each].meta["val"])
    twin_value = node.target(*args, **kwargs)
    if twin_value.permute(axes).stride() != value.stride():
        # Of what is expanded; a later operation may go by the strides.
        return
    with graph.inserting_before(node):
        twin = graph.node_copy(node, before.__getitem__)
        turned = graph.call_function(_permute, (twin, axes))
    twin.meta, turned.meta = {"val": twin_value}, {"val": value}
    node.replace_all_uses_with(turned)


def _is_permute(node):
    return node.target is _permute


def _is_number(node):
    # Constants of a net have no value there.
    value = node.meta.get("val")
    return isinstance(value, torch.Tensor) and value.ndim == 0


def _axes(permute):
    n_axes = permute.meta["val"].ndim
    return tuple(axis % n_axes for axis in permute.args[1])


def _inverse(axes):
    return tuple(axes.index(axis) for axis in range(len(axes)))


def _is_by_element(node):
    """Whether each element of a tensor comes from those in its place, and by no chance."""
    if node.target is _alias:
        return True
    tags = getattr(node.target, "tags", ())
    return (
        torch.Tag.pointwise in tags
        and torch.Tag.nondeterministic_seeded not in tags
        and not node.target._schema.is_mutable
        and node.target is not _clone
        and isinstance(node.meta.get("val"), torch.Tensor)
    )
