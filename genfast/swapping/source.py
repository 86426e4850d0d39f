"""Functions taken apart as syntax trees, and put together again with a change."""

from __future__ import annotations
import __future__

import ast
import functools
import inspect
import operator
import re
import textwrap
import types
from collections.abc import Callable, Iterator
from typing import Any

#: The bits of `from __future__ import ...` in the flags of a code object.
_FUTURE_FLAGS = functools.reduce(
    operator.or_, (getattr(__future__, name).compiler_flag for name in __future__.all_feature_names)
)


class Unreadable(Exception):
    """The function cannot be made again from its source; the message says why."""


def tree_of(function: types.FunctionType) -> ast.FunctionDef:
    """The syntax tree of a function, if compiling it gives what the function runs.

    Raises:
        Unreadable: there is no source, it has changed since it was imported, or the function uses
            what its source alone does not give: a decorator, an enclosing function, `super()`.
    """
    try:
        file, _ = inspect.findsource(function)
        lines, first = inspect.getsourcelines(function)
        tree = ast.parse(textwrap.dedent("".join(lines)))
        running = _is_what_runs("".join(file), function.__code__)
    except (OSError, TypeError, SyntaxError) as error:
        raise Unreadable("its source cannot be read") from error
    definition = tree.body[0]
    if not isinstance(definition, ast.FunctionDef) or definition.decorator_list:
        raise Unreadable("it is decorated or no plain function")
    if function.__code__.co_freevars:
        raise Unreadable("it uses super() or variables of an enclosing function")
    if not running:
        raise Unreadable("its source is not the code that runs")
    if any(_mangled(name) for name in (*function.__code__.co_names, *function.__code__.co_varnames)):
        raise Unreadable("it uses names that are private to its class")
    ast.increment_lineno(tree, first - 1)
    definition.args.defaults = [ast.Constant(None) for _ in definition.args.defaults]
    definition.args.kw_defaults = [d and ast.Constant(None) for d in definition.args.kw_defaults]
    definition.returns = None
    for argument in ast.walk(definition.args):
        if isinstance(argument, ast.arg):
            argument.annotation = None
    ast.fix_missing_locations(tree)
    return definition


def remade(
    function: types.FunctionType, definition: ast.FunctionDef, names: dict[str, Callable[..., Any]]
) -> types.FunctionType:
    """The function that `definition` defines, otherwise like `function`; it also sees `names`.

    They are its closure: the module of `function` stays as it is.
    """
    tree = ast.parse(f"def _enclosing({', '.join(names)}): return {definition.name}")
    enclosing = tree.body[0]
    assert isinstance(enclosing, ast.FunctionDef)
    enclosing.body.insert(0, definition)
    for node in (enclosing, *ast.walk(enclosing.body[1])):
        ast.copy_location(node, definition)
    ast.fix_missing_locations(tree)
    scope: dict[str, Any] = {}
    code = compile(tree, function.__code__.co_filename, "exec", dont_inherit=True)
    exec(code, function.__globals__, scope)
    made: types.FunctionType = scope["_enclosing"](*names.values())
    made.__defaults__ = function.__defaults__
    made.__kwdefaults__ = function.__kwdefaults__
    made.__doc__, made.__qualname__ = function.__doc__, function.__qualname__
    return made


def _is_what_runs(source: str, code: types.CodeType) -> bool:
    """Whether compiling the whole file again gives the code; it may have been edited since."""
    flags = code.co_flags & _FUTURE_FLAGS
    module = compile(source, code.co_filename, "exec", flags, dont_inherit=True)
    return any(_same(code, found) for found in _codes_in(module) if _place(found) == _place(code))


def _place(code: types.CodeType) -> tuple[str, int]:
    return code.co_name, code.co_firstlineno


def _codes_in(code: types.CodeType) -> Iterator[types.CodeType]:
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield constant
            yield from _codes_in(constant)


def _mangled(name: str) -> bool:
    """Whether the compiler made it of a name like __x in a class."""
    return re.fullmatch(r"_[^_]\w*?__\w*(?<!__)", name) is not None


def _same(a: types.CodeType, b: types.CodeType) -> bool:
    """Whether two code objects do the same, whatever their lines."""
    if (a.co_code, a.co_names, a.co_varnames) != (b.co_code, b.co_names, b.co_varnames):
        return False
    if len(a.co_consts) != len(b.co_consts):
        return False
    for x, y in zip(a.co_consts, b.co_consts, strict=True):
        if isinstance(x, types.CodeType) and isinstance(y, types.CodeType):
            if not _same(x, y):
                return False
        elif type(x) is not type(y) or repr(x) != repr(y):
            return False
    return True


def resolved(expression: ast.expr, namespace: dict[str, Any]) -> Any:
    """What a dotted name such as `torch.tanh` stands for in `namespace`; None if it is not one."""
    if isinstance(expression, ast.Name):
        return namespace.get(expression.id)
    if isinstance(expression, ast.Attribute):
        owner = resolved(expression.value, namespace)
        return getattr(owner, expression.attr, None) if isinstance(owner, types.ModuleType) else None
    return None
