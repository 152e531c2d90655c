"""A training step as a graph of tensor operations, and the program that computes it."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch.func import functionalize
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from sktorch.engine.numbers import Numbers
from sktorch.engine.products import PRODUCTS, product
from sktorch.engine.transposes import put_off_transposes

__all__ = ["CannotCompileError", "Program", "compile_step"]


class CannotCompileError(Exception):
    """Says why a step cannot be compiled; never leaves the engine."""


class Program(NamedTuple):
    """A step compiled.

    Parameters
    ----------
    draw : callable
        Returns the random numbers of one step, a sequence of tensors.
    compute : callable
        Takes one list, which it empties: the inputs of the step, and what ``draw`` returned. It
        changes parameters, buffers and slots in place and returns the loss and the prediction.
    recordable : bool
        Whether ``compute`` may be recorded as a CUDA graph.
    """

    draw: Callable
    compute: Callable
    recordable: bool


def compile_step(step, inputs, batch):
    """Return a ``Program``.

    Parameters
    ----------
    step : FunctionalStep
    inputs : list of Tensor
        The tensors of a fit, its numbers, and the tensors of a batch; none of them twice.
    batch : Batch

    Raises
    ------
    CannotCompileError, or whatever torch raises where it cannot
    """
    graph = trace(step, inputs, batch)
    draws = split_draws(graph)
    n_inputs = len(inputs)
    if draws is not None:
        inputs = [*inputs, *map(_like, draws.graph.output_node().args[0])]
    graph = functional(graph, inputs, n_inputs)
    if inputs[0].device.type == "cpu":
        put_off_transposes(graph)
    return Program(
        draw=tuple if draws is None else lambda: [each.contiguous() for each in draws.forward()],
        compute=compile_graph(graph, inputs),
        recordable=_is_recordable(graph),
    )


# Tracing ----------------------------------------------------------------------------------------


def trace(step, inputs, batch):
    """Return the operations of ``step`` as a graph over ``inputs``.

    Traced on tensors without values, so that a forward that asks for one fails here instead of
    being fixed to what it saw.
    """
    places = [i for i, part in enumerate(batch) if isinstance(part, torch.Tensor)]
    n_data, n_numbers = len(places), len(Numbers._fields)

    def function(*flat):
        tensors, numbers = flat[: -n_numbers - n_data], flat[-n_numbers - n_data : -n_data]
        data = list(batch)
        for place, tensor in zip(places, flat[-n_data:], strict=True):
            data[place] = tensor
        with _NoDrawsInBackward():
            return step(tensors, Numbers(*numbers), *data)

    return _traced(function, inputs)


def functional(graph, inputs, n_inputs):
    """Return a graph that changes nothing but its first inputs, and these by copies at its end.

    Of a graph that has been traced already, since torch does not compute gradients inside of what
    makes one functional.
    """
    graph = _traced(functionalize(graph, remove="mutations"), inputs)
    changeable = [node for node in graph.graph.nodes if node.op == "placeholder"][:n_inputs]
    at_end = True
    for node in reversed([node for node in graph.graph.nodes if node.op == "call_function"]):
        if not _is_writing(node):
            at_end = False
        elif not at_end or node.args[0] not in changeable:
            raise CannotCompileError(f"the forward writes to what others hold ({node.target})")
    return graph


def _is_writing(node):
    return isinstance(node.target, torch._ops.OpOverload) and node.target._schema.is_mutable


def _traced(function, inputs):
    """Return the operations of a function of tensors as a graph."""
    # Its decompositions look for parts of inductor that this alone brings with it.
    from torch._inductor.compile_fx import config, select_decomp_table
    from torch.fx.experimental.proxy_tensor import make_fx

    with config.patch(fallback_random=True):
        table = {**select_decomp_table()}
    table |= {op: partial(product, op, table.get(op)) for op in PRODUCTS}
    return make_fx(
        function,
        tracing_mode="fake",
        _allow_non_fake_inputs=True,
        # What draws random numbers stays what it is in a plain step.
        decomposition_table={op: how for op, how in table.items() if not _is_tagged(op)},
    )(*inputs)


# Random numbers ---------------------------------------------------------------------------------

# What takes a tensor for its shape alone.
_LIKE = {torch.ops.aten.rand_like, torch.ops.aten.randn_like, torch.ops.aten.randint_like}


def split_draws(graph):
    """Take what draws random numbers out of a traced graph, which has them as last inputs then.

    What compiles a graph keeps draws neither in their order nor always before their use.

    Returns
    -------
    draws : GraphModule or None
        Takes nothing, and returns a tuple of tensors; None where nothing is drawn.
    """
    nodes = [*graph.graph.nodes]
    fixed = _fixed(nodes)
    drawn = [node for node in nodes if _is_random(node)]
    depending = [node for node in drawn if node not in fixed]
    if depending and (len(depending) < len(drawn) or _device_of(depending[0]).type == "cpu"):
        raise CannotCompileError(f"{depending[0].target} draws random numbers by what it is given")
    # On a GPU there are operations that draw and use in one, and stay that when compiled.
    if depending or not drawn:
        return None
    related = _related(drawn, fixed)
    moved = [node for node in nodes if node in related]
    used = [node for node in moved if not related.issuperset(node.users)]
    _check_reads(nodes, moved, used)
    draws = _copied(moved, used)
    last_input = [node for node in nodes if node.op == "placeholder"][-1]
    for node in reversed(used):
        with graph.graph.inserting_after(last_input):
            node.replace_all_uses_with(graph.graph.placeholder(f"drawn_{node.name}"))
    for node in reversed(moved):
        graph.graph.erase_node(node)
    graph.recompile()
    return torch.fx.GraphModule(graph, draws)


def _check_reads(nodes, moved, used):
    """Refuse draws into what has been read before, as they would all come before that."""
    place = {node: index for index, node in enumerate(nodes)}
    for write in moved:
        if not _is_writing(write):
            continue
        for node in _related([write], {*moved}).intersection(used):
            if any(place[reader] < place[write] for reader in {*node.users}.difference(moved)):
                raise CannotCompileError(
                    f"the forward draws random numbers where it has read others ({write.target})"
                )


def _fixed(nodes):
    """Return the nodes that compute the same, or draw alike, whatever the inputs hold."""
    fixed = set()
    for node in nodes:
        if node.op == "call_function" and (
            _is_like(node) or fixed.issuperset(node.all_input_nodes)
        ):
            fixed.add(node)
    return fixed


def _copied(nodes, outputs):
    """Return a graph of some nodes that does not take anything."""
    graph, copies = torch.fx.Graph(), {}
    for node in nodes:
        given = partial(_shaped_as, graph) if _is_like(node) else copies.__getitem__
        copies[node] = graph.node_copy(node, given)
    graph.output(tuple(copies[node] for node in outputs))
    return graph


def _is_like(node):
    alike = getattr(node.target, "overloadpacket", None) in _LIKE
    return alike and len(node.all_input_nodes) == 1


def _is_tagged(op):
    return torch.Tag.nondeterministic_seeded in getattr(op, "tags", ())


def _is_random(node):
    return _draws(node.target, node.args, node.kwargs)


def _draws(op, args, kwargs):
    """Whether an operation draws; attention bears the tag also where it drops nothing."""
    if not _is_tagged(op):
        return False
    names = [argument.name for argument in op._schema.arguments]
    given = {**dict(zip(names, args, strict=False)), **kwargs}
    return "dropout_p" not in names or given.get("dropout_p", 0.0) != 0.0


class _NoDrawsInBackward(TorchDispatchMode):
    """Refuses a backward that draws what the forward has drawn: a graph would draw anew."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if torch._C._current_autograd_node() is not None and _draws(func, args, kwargs):
            raise CannotCompileError(f"the backward draws random numbers ({func})")
        return func(*args, **kwargs)


def _related(nodes, among):
    """Return these nodes, and those of some others that they are connected with."""
    found, left = set(), [*nodes]
    while left:
        node = left.pop()
        if node not in found and node in among:
            found.add(node)
            left += [*node.all_input_nodes, *node.users]
    return found


def _shaped_as(draws, node):
    """Add an empty tensor to the graph ``draws``, in the place of another one."""
    value = node.meta["val"]
    layout = {"dtype": value.dtype, "device": value.device}
    return draws.call_function(
        torch.ops.aten.empty_strided.default, (value.shape, value.stride()), layout
    )


def _device_of(node):
    value = node.meta["val"]
    return (value if isinstance(value, torch.Tensor) else value[0]).device


def _like(node):
    """Return an empty contiguous tensor like what a node computes."""
    value = node.meta["val"]
    return torch.empty(value.shape, dtype=value.dtype, device=value.device)


# Compiling --------------------------------------------------------------------------------------


def compile_graph(graph, inputs):
    """Return a function of a list of tensors, compiled by torch's inductor.

    Its entry is called without the wrappers of ``torch.compile``, whose guards cost as much at
    each call as the step of a small net, and on a CPU without those of inductor, which look for
    kernels of a GPU that are still being tuned.
    """
    from torch._guards import TracingContext, tracing
    from torch._inductor import config
    from torch._inductor.compile_fx import compile_fx_inner
    from torch._subclasses import FakeTensorMode

    mode = FakeTensorMode(allow_non_fake_inputs=True)
    fakes = [mode.from_tensor(tensor) for tensor in inputs]
    options = {
        # Operations of a GPU that draw stay torch's own.
        "fallback_random": True,
        # What is passed has the shapes and strides that were traced.
        "size_asserts": False,
    }
    on_cpu = inputs[0].device.type == "cpu"
    with config.patch(options), tracing(TracingContext(mode)):
        if on_cpu:
            try:
                # In C++ alone threads do not wait for each other to leave the interpreter.
                return _entry(compile_fx_inner(graph, fakes, cpp_wrapper=True))
            except Exception:
                # What C++ cannot do alone goes through Python.
                pass
        return compile_fx_inner(graph, fakes)


def _entry(compiled):
    """Return the function behind what inductor returns, without its looks at each call."""
    call = compiled.current_callable

    def compute(inputs):
        return call(inputs)

    # Its end would take apart what the function needs.
    compute.compiled = compiled
    return compute


def _is_recordable(graph):
    """Whether all that a traced graph computes can be part of a CUDA graph."""
    from torch._inductor.utils import get_first_incompatible_cudagraph_node

    values = tree_leaves([node.meta.get("val") for node in graph.graph.nodes])
    devices = {value.device.type for value in values if isinstance(value, torch.Tensor)}
    return devices == {"cuda"} and get_first_incompatible_cudagraph_node(graph) is None
