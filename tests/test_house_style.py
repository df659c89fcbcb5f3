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


MOST_LINES = 400
MOST_LINES_OF_A_FUNCTION = 70
TESTS = sorted((ROOT / "tests").rglob("*.py"))
OUTSIDE = frozenset({"asyncio", "secrets", "selectors", "socket", "ssl", "subprocess", "threading", "time"})
"""Modules of the standard library that bring clocks, sockets, processes and entropy."""


def imported(tree: ast.AST) -> set[str]:
    """First names of all modules that are imported."""
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module is not None}
    return {name.partition(".")[0] for name in names}


def swallows(handler: ast.ExceptHandler) -> bool:
    """Whether it catches everything and lets nothing of it on."""
    broad = handler.type is None or (isinstance(handler.type, ast.Name) and handler.type.id in ("Exception", "BaseException"))
    return broad and not any(isinstance(node, ast.Raise) for node in ast.walk(handler))


@pytest.mark.parametrize("path", MODULES + TESTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_modules_and_functions_fit_in_a_head(path: Path) -> None:
    """Admired code and other code have the same medians; they part at the largest ones."""
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= MOST_LINES, f"{path} is too long: look for the second noun"
    functions = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    lengths = {f"{path}:{node.lineno} {node.name}": (node.end_lineno or node.lineno) - node.lineno + 1 for node in functions}
    assert {name: length for name, length in lengths.items() if length > MOST_LINES_OF_A_FUNCTION} == {}


@pytest.mark.parametrize("path", [path for path in MODULES if path.name == "__init__.py"], ids=lambda path: str(path.relative_to(ROOT)))
def test_the_face_of_a_package_runs_nothing(path: Path) -> None:
    """A docstring, imports and `__all__`."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        words = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        exports = isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
        assert words or exports or isinstance(node, ast.Import | ast.ImportFrom), f"{path}:{node.lineno}"


@pytest.mark.parametrize("path", [path for path in MODULES if path.parts[-2:-1] != ("hil",)], ids=lambda path: str(path.relative_to(ROOT)))
def test_what_touches_the_outside_says_that_it_is_a_shell(path: Path) -> None:
    """Deciders take time, messages and randomness as arguments, so that a test or a simulation can give them."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    if path.relative_to(ROOT).parts[0] != "hil":
        assert not imported(tree) & OUTSIDE or "shell" in (ast.get_docstring(tree) or "").lower(), f"{path}: {imported(tree) & OUTSIDE}"
    drawn = [node for node in ast.walk(tree) if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "random"]
    assert {node.attr for node in drawn} <= {"Random", "SystemRandom"}, f"{path} draws from the generator that everybody shares"


def test_only_programs_configure_the_log_and_read_the_environment() -> None:
    """Of what is shipped: the two command lines, and the signal of the coordinator to its service manager."""
    found = {
        (str(path.relative_to(ROOT)), node.attr)
        for path in MODULES
        if path.relative_to(ROOT).parts[0] != "hil"
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and node.attr in ("basicConfig", "environ", "getenv")
    }
    programs = {(f"{package}/cli.py", attribute) for package in ("edge", "coordinator") for attribute in ("basicConfig", "environ")}
    assert found == programs | {("coordinator/commands.py", "environ")}


def test_nothing_is_swallowed_but_where_the_edge_must_go_on() -> None:
    """Around its cycle, which enters failsafe; around each device and the community, whose failure is theirs alone."""
    found = {
        str(path.relative_to(ROOT))
        for path in MODULES
        if path.relative_to(ROOT).parts[0] != "hil"
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ExceptHandler) and swallows(node)
    }
    assert found == {"edge/agent.py", "edge/field.py", "edge/leadership/part.py"}


@pytest.mark.parametrize("path", TESTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_tests_mock_nothing_of_ours_and_sleep_nowhere_but_beside_real_machines(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert "unittest" not in imported(tree), f"{path}: a fake implements the same small protocol"
    sleeps = [node.lineno for node in ast.walk(tree) if isinstance(node, ast.Attribute) and ast.unparse(node) == "time.sleep"]
    assert sleeps == [] or path.parent.name == "deployment", f"{path}: {sleeps}"


def test_these_rules_bite() -> None:
    bad = ast.parse("import os.path\nfrom time import sleep\ntry:\n    x()\nexcept Exception as error:\n    log(error)")
    assert imported(bad) == {"os", "time"}
    assert [swallows(node) for node in ast.walk(bad) if isinstance(node, ast.ExceptHandler)] == [True]
    kept = ast.parse("try:\n    x()\nexcept BaseException:\n    tidy()\n    raise")
    assert [swallows(node) for node in ast.walk(kept) if isinstance(node, ast.ExceptHandler)] == [False]
