"""Rules of the house that no linter knows, checked on the syntax trees of the shipped packages."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MODULES = sorted(path for package in ("protocols", "edge", "coordinator", "hil") for path in (ROOT / package).rglob("*.py"))

UNITS = (
    "_w", "_var", "_va", "_wh", "_v", "_a", "_ohm", "_s", "_hz", "_pu", "_frac", "_deg", "_m", "_per_kwh", "_pct", "_f", "_us",
)  # fmt: skip


def quantity(node: ast.expr) -> str | None:
    """The name of a quantity, if the expression is a bare one."""
    name = node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""
    return name if name.endswith(UNITS) else None


def truth_tests(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Every place where a quantity is used as a truth value: `if limit_w`, `limit_w or default_w`, `not limit_w`."""
    for node in ast.walk(tree):
        tested: list[ast.expr] = []
        if isinstance(node, (ast.If, ast.While, ast.IfExp, ast.Assert)):
            tested = [node.test]
        elif isinstance(node, ast.BoolOp):
            tested = node.values
        elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            tested = [node.operand]
        elif isinstance(node, ast.comprehension):
            tested = node.ifs
        for expression in tested:
            name = quantity(expression)
            if name is not None:
                yield expression.lineno, name


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_zero_is_a_value(path: Path) -> None:
    """`limit_w or default_w` turns a 0 W limit, the one that matters most, into no limit."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert [f"{path}:{line}: truth test on {name}" for line, name in truth_tests(tree)] == []


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_module_says_what_it_is(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) is not None, f"{path} has no docstring"


def test_the_rule_bites() -> None:
    bad = ast.parse("if limit_w or x: pass\ny = a.export_limit_w or 5\nz = not soc_frac\nw = [v for v in vs if p_w]")
    assert [name for _, name in sorted(truth_tests(bad))] == ["limit_w", "export_limit_w", "soc_frac", "p_w"]
