"""Imports point one way: tools may import the engine, the engine imports no tool."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = {
    "bcseg_edge": "engine",
    "bcseg_train": "train",
    "bcseg_calibration": "calibration",
    "bcseg_export": "export",
    "bcseg_benchmarks": "benchmarks",
}
MAY_IMPORT = {
    "bcseg_edge": set(),
    "bcseg_train": {"bcseg_edge"},
    "bcseg_calibration": {"bcseg_edge"},
    "bcseg_export": {"bcseg_edge", "bcseg_train", "bcseg_calibration"},
    "bcseg_benchmarks": {"bcseg_edge", "bcseg_train", "bcseg_calibration", "bcseg_export"},
}


def imports(tree: ast.AST) -> set[str]:
    """Modules that `import` and `from ... import` name anywhere below `tree`."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module)
    return names


BLOCKS = (ast.stmt, ast.ExceptHandler, ast.match_case)


def at_import_time(tree: ast.Module) -> list[ast.AST]:
    """Statements that run on import: all but functions and `if TYPE_CHECKING` blocks."""
    statements: list[ast.AST] = list(tree.body)
    running = []
    while statements:
        node = statements.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            statements += node.orelse
            continue
        children = [child for child in ast.iter_child_nodes(node) if isinstance(child, BLOCKS)]
        statements += children
        if not children:
            running.append(node)
    return running


def sources(package: str) -> list[Path]:
    return sorted((ROOT / FOLDERS[package] / package).rglob("*.py"))


@pytest.mark.parametrize("package", FOLDERS)
def test_packages_import_only_what_lies_below_them(package):
    allowed = MAY_IMPORT[package] | {package}
    wrong = []
    for path in sources(package):
        tree = ast.parse(path.read_text(), str(path))
        # The engine's commands load the tools lazily, inside functions.
        lazily = package == "bcseg_edge" and path.parent.name == "cli"
        names = set().union(*map(imports, at_import_time(tree))) if lazily else imports(tree)
        ours = {name.split(".")[0] for name in names} & set(FOLDERS)
        wrong += [f"{path.relative_to(ROOT)} imports {name}" for name in sorted(ours - allowed)]
    assert not wrong


def test_the_runtime_imports_the_network_libraries_only_inside_functions():
    heavy = {
        "torch",
        "onnx",
        "onnxruntime",
        "openvino",
        "tensorrt",
        "pydicom",
        "highdicom",
        "starlette",
        "uvicorn",
        "av",
    }
    wrong = []
    for path in sources("bcseg_edge"):
        names = set().union(*map(imports, at_import_time(ast.parse(path.read_text(), str(path)))))
        found = {name.split(".")[0] for name in names} & heavy
        wrong += [f"{path.relative_to(ROOT)} imports {name}" for name in sorted(found)]
    assert not wrong


def test_the_engine_was_found():
    assert {path.name for path in sources("bcseg_edge")} >= {"tiling.py", "segmenter.py", "lesions.py"}


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("import torch.nn", {"torch.nn"}),
        ("try:\n    import torch\nexcept ImportError:\n    pass", {"torch"}),
        ("try:\n    f()\nexcept ImportError:\n    import torch", {"torch"}),
        ("class A:\n    import torch", {"torch"}),
        ("def f():\n    import torch", set()),
        ("if TYPE_CHECKING:\n    import torch\nelse:\n    import onnx", {"onnx"}),
        ("from . import torch", set()),
    ],
)
def test_what_runs_on_import_is_seen(code, expected):
    assert set().union(*map(imports, at_import_time(ast.parse(code)))) == expected
