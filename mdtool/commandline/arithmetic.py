"""What stands in $((...)): sums of whole numbers that assign nothing."""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Mapping
from typing import Any


def evaluated(text: str, value_of: Callable[[str], int]) -> int:
    """The value of an expression whose variables ``value_of`` knows.  Raises ValueError, SyntaxError, ArithmeticError, ...

    >>> evaluated("2 * (x + 1) / 3 << 2", lambda name: 4), evaluated("0x10 > 2 && 1", int)
    (12, 1)
    """
    if re.search(r"[^\w\s()+\-*/%<>=!&|?:~^]|\d_|0[bBoO]", text):  # what Python reads otherwise
        raise ValueError
    if choice := re.fullmatch(r"([^?:]*)\?([^?:]*):([^?:]*)", text):
        text = f"({choice[2]}) if ({choice[1]}) else ({choice[3]})"
    for sign, word in (("&&", " and "), ("||", " or "), ("/", "//")):
        text = text.replace(sign, word)
    return _value(ast.parse(text.strip(), mode="eval").body, value_of)


def _value(node: ast.expr, value_of: Callable[[str], int]) -> int:
    if isinstance(node, ast.Constant) and type(node.value) is int:
        return node.value
    if isinstance(node, ast.Name):
        return value_of(node.id)
    if isinstance(node, ast.UnaryOp) and (unary := _OPERATORS.get(type(node.op))):
        return int(unary(_value(node.operand, value_of)))
    if isinstance(node, ast.IfExp):
        return _value(node.body if _value(node.test, value_of) else node.orelse, value_of)
    if isinstance(node, ast.BoolOp):
        values = [_value(one, value_of) for one in node.values]
        return int(all(values) if isinstance(node.op, ast.And) else any(values))
    if isinstance(node, ast.Compare) and len(node.ops) == 1 and (compare := _OPERATORS.get(type(node.ops[0]))):
        return int(compare(_value(node.left, value_of), _value(node.comparators[0], value_of)))
    if isinstance(node, ast.BinOp) and (binary := _OPERATORS.get(type(node.op))):
        left, right = _value(node.left, value_of), _value(node.right, value_of)
        if (left < 0 or right < 0) and isinstance(node.op, (ast.FloorDiv, ast.Mod)):
            raise ValueError  # which C rounds to 0
        if isinstance(node.op, ast.LShift) and right > 62:
            raise ValueError
        return int(binary(left, right))
    raise ValueError


_OPERATORS: Mapping[Any, Callable[..., int]] = {
    ast.UAdd: operator.pos, ast.USub: operator.neg, ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul,
    ast.FloorDiv: operator.floordiv, ast.Mod: operator.mod, ast.Eq: operator.eq, ast.NotEq: operator.ne,
    ast.Lt: operator.lt, ast.LtE: operator.le, ast.Gt: operator.gt, ast.GtE: operator.ge,
    ast.LShift: operator.lshift, ast.RShift: operator.rshift,
}  # fmt: skip
