"""The shape of the house: which module may know what. Imports are read, not run, but for the last section."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from makers import make_root

import stn_bench

PACKAGE = Path(stn_bench.__file__).parent
FILES = {path.relative_to(PACKAGE).as_posix(): path for path in sorted(PACKAGE.rglob("*.py"))}
DOORS = {
    "keras": ("nn/",),
    "tensorflow": ("nn/",),
    "jax": ("nn/",),
    "optuna": ("search.py",),
    "mlflow": ("tracking.py",),
    "matplotlib": ("report/figures.py", "report/model_figures.py", "report/verdict_figures.py"),
    "markdown_it": ("report/html.py",),
    "filelock": ("lock.py",),
    "captcha": ("data/",),
    "cv2": ("data/",),
    "PIL": ("data/", "report/figures.py"),
    "typer": ("cli/",),
    "click": ("cli/",),
    "rich": ("cli/",),
    "jinja2": ("report/page.py",),
    "pandas": ("report/table.py",),
    "scipy": ("stats/", "plan.py"),
    "statsmodels": (),  # an oracle for the tests, no part of the package
}
PURE = (
    "config.py",
    "errors.py",
    "identity.py",
    "catalogue.py",
    "plan.py",
    "stats/",
    "record.py",
    "metrics.py",
    "letters.py",
    "verdicts.py",
    "rounds.py",
    "reading.py",
    "flags.py",
    "forecast.py",
    "reach.py",
    "frozen.py",
)
FORBIDDEN = {
    **dict.fromkeys(PURE, ("nn", "tracking", "search", "runner", "worker", "cell", "cli", "report", "data")),
    "results.py": ("nn", "tracking", "search", "runner", "worker", "cell", "cli", "report"),
    "outlook.py": ("nn", "search", "runner", "worker", "cell", "cli", "report"),
    "probe.py": ("tracking", "search", "runner", "worker", "cell", "cli", "report", "results"),
    "report/": ("nn", "tracking", "search", "runner", "worker", "cell", "cli"),
    "nn/": ("tracking", "search", "runner", "worker", "cell", "report", "cli"),
    "data/": ("nn", "tracking", "search", "runner", "worker", "cell", "report", "cli"),
    "tracking.py": ("nn", "search", "runner", "worker", "cell", "report", "cli"),
    "search.py": ("nn", "tracking", "runner", "worker", "cell", "report", "cli"),
    "report/figures.py": ("nn", "data", "tracking", "search", "report.summary", "report.page", "results"),
    "report/verdict_figures.py": ("nn", "data", "tracking", "search", "report.summary", "report.page", "results"),
    "report/model_figures.py": ("nn", "data", "tracking", "search", "report.summary", "report.page", "results"),
    "determinism.py": ("cli", "report", "tracking", "search", "runner", "worker", "cell", "results"),
    "archive.py": ("cli", "nn", "search", "runner", "worker", "cell"),
    "runner.py": ("cli", "report"),
    "worker.py": ("cli", "report", "runner"),
    "cell.py": ("cli", "report", "runner", "worker", "search"),
}
PAPER = ("stn_bench.subjects.stn.nn.layout",)  # the network on paper: no Keras in it, and the plan needs its FLOPs
HEAVY = ("keras", "tensorflow", "jax", "mlflow", "optuna", "matplotlib", "torch")


def tree_of(file: str) -> ast.Module:
    return ast.parse(FILES[file].read_text(encoding="utf-8"))


def imports(file: str) -> Iterator[str]:
    """Yield the dotted name of all that a file imports, wherever in it, but for type checkers alone."""
    waiting: list[ast.AST] = [tree_of(file)]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        waiting += ast.iter_child_nodes(node)


def is_inside(name: str, parents: tuple[str, ...]) -> bool:
    return any(name == parent or name.startswith(f"{parent}.") for parent in parents)


def public_definitions(file: str) -> Iterator[tuple[str, ast.AST]]:
    waiting: list[tuple[str, ast.AST]] = [("", tree_of(file))]
    while waiting:
        prefix, parent = waiting.pop()
        for node in ast.iter_child_nodes(parent):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and not node.name.startswith(
                "_"
            ):
                yield prefix + node.name, node
                if isinstance(node, ast.ClassDef):
                    waiting.append((f"{prefix}{node.name}.", node))


@pytest.mark.parametrize("library", DOORS)
def test_library_is_imported_behind_its_door_alone(library: str) -> None:
    users = {file for file in FILES for name in imports(file) if is_inside(name, (library,))}
    assert sorted(file for file in users if not file.startswith(DOORS[library])) == []


@pytest.mark.parametrize("place", FORBIDDEN)
def test_imports_go_one_way(place: str) -> None:
    forbidden = tuple(f"stn_bench.{module}" for module in FORBIDDEN[place])
    places = [file for file in FILES if file == place or (place.endswith("/") and file.startswith(place))]
    assert places
    found = [(file, name) for file in places for name in imports(file) if is_inside(name, forbidden)]
    assert [f"{file} imports {name}" for file, name in found if not is_inside(name, PAPER)] == []


def test_nobody_but_the_command_line_imports_the_command_line() -> None:
    users = {file for file in FILES for name in imports(file) if is_inside(name, ("stn_bench.cli",))}
    assert sorted(file for file in users if not file.startswith("cli/")) == ["__main__.py"]


@pytest.mark.parametrize("file", FILES)
def test_only_the_command_line_prints(file: str) -> None:
    calls = [node.func for node in ast.walk(tree_of(file)) if isinstance(node, ast.Call)]
    prints = [call for call in calls if isinstance(call, ast.Name) and call.id == "print"]
    assert file.startswith("cli/") or not prints


@pytest.mark.parametrize("file", FILES)
def test_everything_public_says_what_it_does(file: str) -> None:
    missing = [name for name, node in public_definitions(file) if not ast.get_docstring(node)]  # type: ignore[arg-type]
    private = file.rpartition("/")[2].startswith("_") and not file.endswith("__.py")
    assert private or missing == []


@pytest.mark.parametrize("file", FILES)
def test_every_module_says_what_it_is_for(file: str) -> None:
    assert ast.get_docstring(tree_of(file))


@pytest.mark.parametrize(
    "command", [["--help"], ["run", "--help"], ["list"], ["check"], ["plan", "small"]], ids=" ".join
)
def test_quick_command_loads_nothing_heavy(command: list[str], tmp_path: Path) -> None:
    root = [] if "--help" in command else ["--root", str(make_root(tmp_path))]
    code = f"""
import sys
from stn_bench.cli import main
sys.argv = {["stn-bench", *command, *root]!r}
try:
    main()
finally:
    print("LOADED", *sorted({{name.partition(".")[0] for name in sys.modules}} & set({HEAVY!r})))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].strip() == "LOADED"
