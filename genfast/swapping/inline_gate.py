"""Gates written out in a block's `forward`: `a, b = y.chunk(2, 1)`, then `tanh(a) * sigmoid(b)`.

Of the block's `forward` only the product is replaced, in its syntax tree, so that every branch, hook
and attribute goes on meaning what it meant. A product is replaced if a and b are what the split gave,
not assigned since. The split may be chunk or split, of a tensor or of torch; PixelCNN++'s gate,
a * sigmoid(b), becomes torch's own glu. Functions that `forward` calls by name, such as a `gate(y)` next
to the class, are treated alike.
"""

from __future__ import annotations

import ast
import copy
import types
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genfast.ops import gated_activation
from genfast.swapping.recognition import Candidate, Change, LeftAlone, is_library_class
from genfast.swapping.source import Unreadable, remade, resolved, tree_of
from genfast.swapping.twin import Twin

_TANH = (torch.tanh, F.tanh, torch.Tensor.tanh)
_SCOPES = (ast.Lambda, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
_SIGMOID = (torch.sigmoid, F.sigmoid, torch.special.expit, torch.Tensor.sigmoid)


class InlineGateTwin(Twin):
    """A block whose gates are computed in one pass over memory."""

    @classmethod
    def members(cls, original: type[nn.Module]) -> dict[str, Any]:
        try:
            return {"forward": _fused(original.forward)[0]}
        except Unreadable as error:  # a module unpickled where the source is not
            raise RuntimeError(
                f"{original.__name__} was pickled with fused gates, but here {error}; "
                f"call genfast.unswap before pickling"
            ) from error


def inline_gate(module: nn.Module) -> Iterator[Candidate]:
    """The pattern; see the head of this file."""
    forward = type(module).forward
    if is_library_class(module) or not isinstance(forward, types.FunctionType):
        return
    try:
        _, count = _fused(forward)
    except Unreadable as error:
        if {"tanh", "sigmoid"} <= set(forward.__code__.co_names):
            raise LeftAlone(f"it seems to have a gate, but {error}") from error
        return
    if count:
        what = "its gate" if count == 1 else f"its {count} gates"
        yield Candidate(f"{what} fused", (Change("", InlineGateTwin),), ())
    elif {"tanh", "sigmoid"} <= set(forward.__code__.co_names):
        raise LeftAlone("its tanh and sigmoid are not those of the two halves of a split, in this order")


@cache
def _fused(function: Callable[..., Any]) -> tuple[types.FunctionType, int]:
    """The function with its gates fused, and how many there were."""
    return _fused_with(function, helpers=True)


def _fused_with(function: Callable[..., Any], helpers: bool) -> tuple[types.FunctionType, int]:
    if not isinstance(function, types.FunctionType):
        raise Unreadable("it is no plain function")
    definition = copy.deepcopy(tree_of(function))
    fusion = _Fusion(function, helpers)
    fusion.block(definition.body, {})
    names: dict[str, Callable[..., Any]] = {"_genfast_gate": gate_of, "_genfast_glu": glu_of}
    return remade(function, definition, names | fusion.helpers), fusion.count


def gate_of(y: Any, a: Any, b: Any) -> Any:
    """tanh(a) * sigmoid(b) of what a split of `y` along dimension 1 gave."""
    if _halves(y, a, b):
        return gated_activation(y)
    return torch.tanh(a) * torch.sigmoid(b)


def glu_of(y: Any, a: Any, b: Any) -> Any:
    """a * sigmoid(b) likewise."""
    return F.glu(y, 1) if _halves(y, a, b) else a * torch.sigmoid(b)


def _halves(y: Any, a: Any, b: Any) -> bool:
    """A chunk of an odd size, or a split of another size, gives no halves."""
    return isinstance(y, Tensor) and y.is_floating_point() and a.shape == b.shape


class _Fusion:
    """Rewrites statements in place, keeping track of which names hold the halves of what."""

    def __init__(self, function: types.FunctionType, with_helpers: bool) -> None:
        self.with_helpers = with_helpers
        self.namespace = function.__globals__
        self.local = set(function.__code__.co_varnames) | set(function.__code__.co_cellvars)
        self.count = 0
        self.splits = 0
        self.helpers: dict[str, Callable[..., Any]] = {}

    def block(self, statements: list[ast.stmt], halves: dict[tuple[str, str], str]) -> None:
        """`halves` maps the names of two halves to the name of the tensor that was split."""
        for statement in statements:
            if isinstance(statement, ast.If | ast.For | ast.While | ast.With):
                _forget(statement, halves)  # a loop may come back to what it assigns
                for body in (statement.body, getattr(statement, "orelse", [])):
                    self.block(body, dict(halves))
            elif isinstance(
                statement, ast.Assign | ast.AugAssign | ast.AnnAssign | ast.Expr | ast.Return
            ):
                for inner in ast.walk(statement):
                    if isinstance(inner, ast.NamedExpr):
                        _forget(inner, halves)
                self._replace(statement, halves)
                _forget(statement, halves)
                self._remember(statement, halves)
            else:
                halves.clear()

    def _remember(self, statement: ast.stmt, halves: dict[tuple[str, str], str]) -> None:
        if not (isinstance(statement, ast.Assign) and len(statement.targets) == 1):
            return
        target, value = statement.targets[0], statement.value
        if not (isinstance(target, ast.Tuple) and isinstance(value, ast.Call)):
            return
        names = [name.id for name in target.elts if isinstance(name, ast.Name)]
        place = self._split_operand(value)
        if place is None or len(target.elts) != 2 or len(set(names)) != 2:
            return
        name = f"_genfast_split_{self.splits}"
        self.splits += 1
        owner, field = place
        operand = getattr(owner, field) if isinstance(field, str) else owner.args[0]
        walrus = ast.NamedExpr(ast.Name(name, ast.Store()), operand)
        if isinstance(field, str):
            setattr(owner, field, walrus)
        else:
            owner.args[0] = walrus
        halves[names[0], names[1]] = name

    def _split_operand(self, call: ast.Call) -> tuple[Any, str | int] | None:
        """Where the tensor stands that the call splits in two along dimension 1; None if it does not."""
        function = call.func
        plain = self._resolved(function)
        if plain in (torch.chunk, torch.split, torch.functional.split):
            place: tuple[Any, str | int] = (call, 0)
            rest, chunks = call.args[1:], plain is torch.chunk
            if not call.args:
                return None
        elif (
            plain is None and isinstance(function, ast.Attribute) and function.attr in ("chunk", "split")
        ):
            place = (function, "value")
            rest, chunks = call.args, function.attr == "chunk"
        else:
            return None
        keywords = {k.arg: k.value for k in call.keywords}
        size = rest[0] if rest else keywords.get("chunks") or keywords.get("split_size_or_sections")
        dim = rest[1] if len(rest) > 1 else keywords.get("dim")
        if not (isinstance(dim, ast.Constant) and dim.value == 1):
            return None
        halves = not chunks or (isinstance(size, ast.Constant) and size.value == 2)
        return place if halves else None

    def _resolved(self, expression: ast.expr) -> Any:
        root = expression
        while isinstance(root, ast.Attribute):
            root = root.value
        if isinstance(root, ast.Name) and root.id in self.local:
            return None
        return resolved(expression, self.namespace)

    def _replace(self, statement: ast.stmt, halves: dict[tuple[str, str], str]) -> None:
        fusion = self

        class Replace(ast.NodeTransformer):
            def visit(self, node: ast.AST) -> Any:
                # A lambda runs later, when the halves may be others; the rest have names of their own.
                return node if isinstance(node, _SCOPES) else super().visit(node)

            def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
                return fusion._gate(node, halves) or self.generic_visit(node)

            def visit_Call(self, node: ast.Call) -> ast.AST:
                fusion._helper(node)
                return self.generic_visit(node)

        Replace().visit(statement)

    def _gate(self, node: ast.BinOp, halves: dict[tuple[str, str], str]) -> ast.AST | None:
        if not isinstance(node.op, ast.Mult):
            return None
        for left, right in ((node.left, node.right), (node.right, node.left)):
            b = self._argument(right, _SIGMOID, "sigmoid")
            a = self._argument(left, _TANH, "tanh")
            function = "_genfast_gate"
            if a is None and isinstance(left, ast.Name):
                a, function = left.id, "_genfast_glu"
            split = halves.get((a, b)) if a and b else None
            if split:
                self.count += 1
                arguments: list[ast.expr] = [ast.Name(n, ast.Load()) for n in (split, a or "", b or "")]
                call = ast.Call(ast.Name(function, ast.Load()), arguments, [])
                return ast.copy_location(call, node)
        return None

    def _argument(self, node: ast.expr, functions: tuple[Any, ...], method: str) -> str | None:
        """The name x in `function(x)` or `x.method()`."""
        if not isinstance(node, ast.Call) or node.keywords:
            return None
        argument: ast.expr | None = None
        if len(node.args) == 1 and self._resolved(node.func) in functions:
            argument = node.args[0]
        elif not node.args and isinstance(node.func, ast.Attribute) and node.func.attr == method:
            argument = node.func.value
        return argument.id if isinstance(argument, ast.Name) else None

    def _helper(self, call: ast.Call) -> None:
        """A function called by its name that has gates is called in its fused form."""
        if not (self.with_helpers and isinstance(call.func, ast.Name)):
            return
        helper = self._resolved(call.func)
        if not isinstance(helper, types.FunctionType) or helper.__module__.startswith("torch"):
            return
        if not {"tanh", "sigmoid"} & set(helper.__code__.co_names):
            return
        try:
            fused, count = _fused_with(helper, helpers=False)
        except Unreadable:
            return
        if count:
            name = f"_genfast_helper_{len(self.helpers)}"
            self.helpers[name] = fused
            self.count += count
            call.func = ast.copy_location(ast.Name(name, ast.Load()), call.func)


def _forget(node: ast.AST, halves: dict[tuple[str, str], str]) -> None:
    """What is assigned within the node is no half any more."""
    assigned = {
        name.id
        for name in ast.walk(node)
        if isinstance(name, ast.Name) and not isinstance(name.ctx, ast.Load)
    }
    for pair in [pair for pair in halves if assigned & set(pair)]:
        del halves[pair]
