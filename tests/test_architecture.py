"""The shape of the house: which module may know what. Imports are read, not run, but for the last section."""

from __future__ import annotations

import ast
import functools
import io
import re
import subprocess
import sys
import tokenize
from collections import Counter
from collections.abc import Iterator, Mapping
from graphlib import TopologicalSorter
from pathlib import Path

import pytest
from makers import make_root

import stn_bench

PACKAGE = Path(stn_bench.__file__).parent
FILES = {path.relative_to(PACKAGE).as_posix(): path for path in sorted(PACKAGE.rglob("*.py"))}

BELOW_ANALYSIS = ("system", "settings", "figure", "subject", "stats", "study", "tracking")
WINGS = {
    "system": (),
    "stats": (),
    "settings": ("system",),
    "figure": ("system",),
    "subject": ("system", "settings", "figure"),
    "isolation": ("system",),
    "study": ("system", "settings", "subject", "stats"),
    "tracking": ("system", "settings", "subject", "stats", "study"),
    "analysis": ("system", "settings", "subject", "stats", "study", "tracking"),
    "runner": (*BELOW_ANALYSIS, "analysis", "isolation"),
    "report": (*BELOW_ANALYSIS, "analysis"),
    "cli": (*BELOW_ANALYSIS, "analysis", "isolation", "runner", "report", "stn_bench"),
    "subjects": ("system", "settings", "figure", "subject", "stats", "isolation"),
    "stn_bench": (*BELOW_ANALYSIS, "analysis", "runner", "report"),  # Python's door: `stn_bench.runs` and `summary`
    "testing": (*BELOW_ANALYSIS, "analysis", "isolation", "runner"),  # the contract suite, for anybody's subject
    "__main__": ("cli",),
}
"""Wing -> the wings that it may import. This list is the only one: what it does not name is not there."""

EXCEPTIONS = {
    "subjects/stn/commands.py": ("cli.options", "runner.stores"),  # the command line mounts it by its name
    "subject.py": ("subjects",),  # the bare package, of which it lists the names
    "isolation.py": ("subjects",),  # the same: it says where libraries' settings are
}
"""File -> what it may import beside what its wing may."""

STN = "subjects/stn/"
KERAS = (
    "subjects/keras_model.py",
    "subjects/keras_by_class.py",
    "subjects/keras_classes.py",
    "subjects/keras_training/",
    "subjects/picture_folder/",
)
SHARED = (f"{STN}data/store.py",)
"""What pictures in folders need too, and what stn must keep: the keys of its runs name it there."""

TRAINING = "subjects/keras_training/"
"""The training of any Keras model, the article's among them."""

OF_PICTURES = ("subjects/labelled.py", "subjects/transparency.py")
"""Which pictures a folder holds, of which class, and what transparent ones show: for every subject of pictures."""

FLOORS = 9
"""Wings that may stand on one another."""

DOORS = {
    "keras": (*KERAS, f"{STN}nn/"),
    "tensorflow": (*KERAS, f"{STN}nn/"),
    "jax": (*KERAS, f"{STN}nn/"),
    "captcha": (f"{STN}data/",),
    "cv2": (f"{STN}data/",),
    "PIL": (f"{STN}data/", "subjects/picture_folder/decoding.py", "subjects/transparency.py"),
    "optuna": ("runner/queue/",),
    "mlflow": ("tracking/mlflow/",),
    "alembic": ("tracking/mlflow/",),
    "sqlalchemy": ("runner/queue/", "tracking/mlflow/", "system/postgres.py"),
    "filelock": ("system/lock.py",),
    "ray": ("runner/cluster.py",),
    "psutil": ("system/machine.py", "tracking/server.py", "runner/queue/owner.py", "runner/cleanup.py"),
    "matplotlib": ("figure.py", "report/drawings.py", f"{STN}drawings.py"),
    "markdown_it": ("report/html.py",),
    "jinja2": ("report/page.py",),
    "pandas": ("report/frames.py", "tracking/table.py"),
    "scipy": ("stats/",),
    "typer": ("cli/", f"{STN}commands.py"),
    "click": ("cli/", f"{STN}commands.py"),
    "rich": ("cli/", f"{STN}commands.py"),
    "pytest": ("testing.py",),
    "statsmodels": (),  # an oracle for the tests, no part of the package
    "numpy": ("",),
    "pydantic": ("",),
}
"""Library -> the modules and folders that may import it; "" stands for all."""

RUNNER = [path.stem for path in (PACKAGE / "runner").glob("[a-z]*.py")]

INSIDE = {
    "tracking/former.py": ("tracking",),
    "tracking/unfollowed.py": ("tracking",),
    "tracking/modules.py": ("tracking.code", "tracking.registered", "tracking.identity", "study"),
    "tracking/registered.py": ("tracking.code", "tracking.identity", "study"),
    "tracking/code.py": (
        *("tracking.identity", "tracking.record", "tracking.results"),
        *("tracking.mlflow", "tracking.archive", "tracking.store"),
    ),
    "tracking/identity.py": ("tracking.mlflow", "tracking.archive", "tracking.results", "tracking.record"),
    "tracking/record.py": ("tracking.mlflow", "tracking.archive", "tracking.results", "tracking.store"),
    "tracking/results.py": ("tracking.mlflow", "tracking.archive"),
    "tracking/mlflow/": ("tracking.results", "tracking.archive"),
    "analysis/": ("tracking.mlflow", "tracking.archive", "tracking.server"),
    "runner/queue/": (
        *(f"runner.{name}" for name in RUNNER if name not in ("queue", "turns", "leases")),
        "tracking",
        "analysis",
    ),
    "runner/turns.py": ("runner", "study", "tracking", "analysis"),
    "runner/leases.py": ("runner", "study", "tracking", "analysis"),
    "runner/job.py": ("runner.runner", "runner.worker", "runner.pool", "runner.queue", "analysis"),
    "runner/worker.py": ("runner.runner", "runner.pool", "analysis"),
    **dict.fromkeys(
        ("runner/work.py", "runner/packed.py", "runner/folder_queue.py", "runner/data.py", "tracking/folders.py"),
        ("runner.queue", "runner.stores", "runner.runner", "runner.wanted", "tracking.mlflow", "analysis"),
    ),
    "runner/determinism.py": ("runner.runner", "runner.worker", "runner.pool", "runner.queue", "tracking", "analysis"),
    "runner/timing.py": ("runner.runner", "runner.worker", "runner.queue", "tracking"),
    "report/drawings.py": ("report", "tracking", "subject", "settings"),
    "report/figures.py": ("report.page", "report.build", "report.html", "report.latex", "tracking.mlflow"),
    f"{STN}data/": ("subjects.stn.nn", "subjects.stn.training", "subjects.stn.hooks"),
    f"{STN}letters.py": ("subjects.stn.nn", "subjects.stn.data"),
    f"{STN}predictions.py": ("subjects.stn.nn", "subjects.stn.data"),
    f"{STN}nn/": ("subjects.stn.hooks", "subjects.stn.commands", "subjects.stn.drawings", "figure", "subject"),
}
"""Within a wing: file or folder -> what it does not import."""

LONGEST = 450

TWINS = {
    "Progress": "of a training, in its checkpoint, and of a study, on the screen",
    "Manifest": "of an archive of runs, and of a folder of pictures: each is what its own file is called",
}
"""Name of two classes -> why one name is right for both."""

BY_PROCESSOR = frozenset(
    {"dot", "vdot", "inner", "matmul", "tensordot", "linalg", "cov", "corrcoef", "polyfit", "convolve", "power"}
    | {"exp", "expm1", "log", "log1p", "log2", "log10", "sin", "cos", "tan", "tanh", "arctan", "arctan2", "cbrt"}
)
"""What numpy rounds as the processor at hand does it best; sums, means and standard deviations it does not."""

WORDS = re.compile(
    r"captcha|keras|tensorflow|(?<!i)transformer|convolution|letters?(?![a-z])|pictures?(?![a-z])|pixel|(?<![\w-])stn(?![\w-])"
)
"""What only a subject knows of."""

SPOKEN = {
    ("subject.py", "stn"): "DEFAULT, the subject of a study that names none",
    ("system/text.py", "letters"): "of which names are made",
    ("system/library_state.py", "pixel"): "of Pillow's own setting",
    ("system/gpus.py", "tensorflow"): "the name of a distribution that computes on GPUs",
    ("testing.py", "pictures"): "figures, as a test's name calls them",
    ("cli/studies.py", "letters"): "of a run's id",
    ("cli/new.py", "keras"): "the kind of subject that `new --keras` writes",
    ("study/spec.py", "pictures"): "`published_pictures`, a key of files that people wrote",
    ("analysis/summary.py", "pictures"): "`published_pictures`, a key of report.json",
    ("analysis/summarise.py", "pictures"): "the same",
    ("report/tables.py", "pictures"): "the same",
}
"""(file, word) -> why it may be said there."""

HEAVY = ("keras", "tensorflow", "jax", "mlflow", "optuna", "matplotlib", "torch", "cv2")


@functools.cache
def tree_of(file: str) -> ast.Module:
    return ast.parse(FILES[file].read_text(encoding="utf-8"))


@functools.cache
def imports(file: str) -> frozenset[str]:
    """Return the dotted name of all that a file imports, wherever in it, but for type checkers alone."""
    found: set[str] = set()
    waiting: list[ast.AST] = [tree_of(file)]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            waiting += node.orelse
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom):
            assert not node.level, f"{file}: relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        waiting += ast.iter_child_nodes(node)
    return frozenset(found)


def file_of(name: str) -> str | None:
    """Return the file of the module that a dotted name is, or is a name in; None if it is none of ours."""
    parts = name.split(".")
    if parts[0] != "stn_bench":
        return None
    for length in range(len(parts), 0, -1):
        path = "/".join(parts[1:length])
        found = [one for one in (f"{path}.py", f"{path}/__init__.py".lstrip("/")) if one in FILES]
        if found:
            return found[0]
    raise AssertionError(f"no module {name}")


def wing_of(file: str) -> str:
    """Return the wing that a file is in: a folder, or a module of its own."""
    top = file.partition("/")[0].removesuffix(".py")
    return "stn_bench" if top == "__init__" else top


def dotted(file: str) -> str:
    """Return the name of a module relative to the package."""
    return file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def ours(file: str) -> Iterator[str]:
    """Yield the files of ours that a file imports."""
    yield from {found for name in imports(file) if (found := file_of(name)) and found != file}


def is_inside(name: str, parents: tuple[str, ...]) -> bool:
    return any(name == parent or name.startswith(f"{parent}.") for parent in parents)


def lies_in(file: str, places: tuple[str, ...]) -> bool:
    return any(file == place or (place.endswith("/") and file.startswith(place)) or not place for place in places)


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


# Wings -----------------------------------------------------------------------------------------------------------


def test_the_list_names_every_wing() -> None:
    assert {wing_of(file) for file in FILES} == set(WINGS)


@pytest.mark.parametrize("wing", WINGS)
def test_a_wing_imports_only_what_is_below_it(wing: str) -> None:
    found = [
        f"{file} imports {dotted(other)}"
        for file in FILES
        if wing_of(file) == wing
        for other in ours(file)
        if wing_of(other) not in (wing, *WINGS[wing]) and not is_inside(dotted(other), EXCEPTIONS.get(file, ()))
    ]
    assert sorted(found) == []


def test_no_wing_imports_a_module_of_a_subject() -> None:
    users = {(file, other) for file in FILES for other in ours(file) if other.startswith("subjects/")}
    bare = {("subject.py", "subjects/__init__.py"), ("isolation.py", "subjects/__init__.py")}
    assert {pair for pair in users if not pair[0].startswith("subjects/")} == bare


def test_one_subject_knows_of_no_other() -> None:
    def home(file: str) -> str:
        return "keras" if lies_in(file, KERAS) else file.split("/")[1].removesuffix(".py")

    own = [
        file for file in FILES if file.startswith("subjects/") and file not in ("subjects/__init__.py", *OF_PICTURES)
    ]
    found = {(file, other) for file in own for other in ours(file) if other in own and home(other) != home(file)}
    assert {other for file, other in found if lies_in(file, KERAS)} <= set(SHARED)
    others = [(file, other) for file, other in found if not lies_in(file, KERAS)]
    assert {file.startswith(STN) and other.startswith(TRAINING) for file, other in others} <= {True}


def test_of_pythons_door_the_command_line_uses_the_version_alone() -> None:
    used = {name for file in FILES for name in imports(file) if file_of(name) == "__init__.py" and "/" in file}
    assert used == {"stn_bench.__version__"}


def test_runner_and_report_know_nothing_of_each_other() -> None:
    for one, other in (("runner", "report"), ("report", "runner")):
        assert other not in WINGS[one]


@pytest.mark.parametrize("file", EXCEPTIONS)
def test_every_exception_is_still_needed(file: str) -> None:
    used = [dotted(other) for other in ours(file)]
    for exception in EXCEPTIONS[file]:
        assert any(is_inside(name, (exception,)) for name in used), exception


def test_wings_stand_on_at_most_nine_floors() -> None:
    standing = {
        wing: {wing_of(other) for file in FILES if wing_of(file) == wing for other in ours(file)} - {wing}
        for wing in WINGS
    }
    standing["subject"] -= {"subjects"}  # names alone
    standing["isolation"] -= {"subjects"}  # the same
    standing["cli"] -= {"stn_bench"}  # its version alone
    standing["subjects"] -= {"cli", "runner", "tracking"}  # that is where `commands` stands
    floors: dict[str, int] = {}
    for wing in TopologicalSorter(standing).static_order():
        floors[wing] = 1 + max((floors[one] for one in standing[wing]), default=0)
    assert max(floors.values()) <= FLOORS, floors


def circles(graph: Mapping[str, set[str]]) -> list[set[str]]:
    """Return the strongly connected components of more than one node, by Tarjan's algorithm."""
    order: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[set[str]] = []

    def visit(node: str) -> None:
        order[node] = low[node] = len(order)
        stack.append(node)
        for other in sorted(graph[node]):
            if other not in order:
                visit(other)
            if other in stack:
                low[node] = min(low[node], low[other])
        if low[node] == order[node]:
            component = set(stack[stack.index(node) :])
            del stack[stack.index(node) :]
            if len(component) > 1:
                found.append(component)

    for node in sorted(graph):
        if node not in order:
            visit(node)
    return found


def test_circles_are_found() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"a"}}) == [{"b", "c"}]


def test_no_modules_import_one_another_in_a_circle() -> None:
    """Whether at their top or in a function."""
    assert circles({file: set(ours(file)) for file in FILES}) == []


@pytest.mark.parametrize("place", INSIDE)
def test_imports_within_a_wing_go_one_way(place: str) -> None:
    files = [file for file in FILES if lies_in(file, (place,))]
    assert files
    own = dotted(place.rstrip("/"))
    found = [
        f"{file} imports {dotted(other)}"
        for file in files
        for other in ours(file)
        if is_inside(dotted(other), INSIDE[place]) and not (place.endswith("/") and is_inside(dotted(other), (own,)))
    ]
    assert found == []


# Libraries -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("library", DOORS)
def test_library_is_imported_behind_its_door_alone(library: str) -> None:
    users = {file for file in FILES for name in imports(file) if is_inside(name, (library,))}
    assert sorted(file for file in users if not lies_in(file, DOORS[library])) == []


def test_every_library_has_its_door() -> None:
    tops = {name.partition(".")[0] for file in FILES for name in imports(file)}
    assert tops - set(sys.stdlib_module_names) - set(DOORS) == {"stn_bench"}


def test_only_subjects_know_what_is_trained() -> None:
    for library in ("keras", "tensorflow", "jax", "cv2", "captcha", "PIL"):
        assert all(place.startswith("subjects/") for place in DOORS[library])


# Modules ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("file", FILES)
def test_a_module_can_be_read_in_one_sitting(file: str) -> None:
    assert len(FILES[file].read_text(encoding="utf-8").splitlines()) <= LONGEST


@pytest.mark.parametrize("file", [name for name in FILES if name.startswith(("stats/", "analysis/"))])
def test_no_number_of_a_report_is_rounded_by_the_processor(file: str) -> None:
    nodes = list(ast.walk(ast.parse(FILES[file].read_text(encoding="utf-8"))))
    named = {node.attr for node in nodes if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "np"}
    assert not [
        ast.unparse(node) for node in nodes if isinstance(node, ast.BinOp) and isinstance(node.op, ast.MatMult)
    ]
    assert not named & BY_PROCESSOR


def test_no_two_classes_share_a_name() -> None:
    names = [(node.name, file) for file in FILES for node in ast.walk(tree_of(file)) if isinstance(node, ast.ClassDef)]
    counts = Counter(name for name, _ in names)
    shared = {name: [file for other, file in names if other == name] for name in counts if counts[name] > 1}
    assert shared.keys() == TWINS.keys(), shared


def spoken(file: str) -> Iterator[str]:
    """Yield names, texts and comments of a file, but no docstring."""
    docstrings = {
        (node.lineno, node.col_offset)
        for node in (statement.value for statement in ast.walk(tree_of(file)) if isinstance(statement, ast.Expr))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    for token in tokenize.generate_tokens(io.StringIO(FILES[file].read_text(encoding="utf-8")).readline):
        is_text = token.type in (tokenize.NAME, tokenize.STRING)
        if is_text and token.start not in docstrings and not token.line.lstrip().startswith("from stn_bench"):
            yield token.string


@pytest.mark.parametrize("file", [file for file in FILES if not file.startswith("subjects/")])
def test_the_harness_speaks_of_no_subject(file: str) -> None:
    found = {(file, word) for text in spoken(file) for word in WORDS.findall(text.lower())}
    assert {pair for pair in found if pair not in SPOKEN} == set()


def test_every_word_that_is_excused_is_still_said() -> None:
    said = {(file, word) for file in FILES for text in spoken(file) for word in WORDS.findall(text.lower())}
    assert set(SPOKEN) <= said


def test_nobody_but_the_command_line_imports_the_command_line() -> None:
    users = {file for file in FILES for name in imports(file) if is_inside(name, ("stn_bench.cli",))}
    assert sorted(file for file in users if not file.startswith("cli/")) == ["__main__.py", f"{STN}commands.py"]


@pytest.mark.parametrize("file", FILES)
def test_only_the_command_line_prints(file: str) -> None:
    calls = [node.func for node in ast.walk(tree_of(file)) if isinstance(node, ast.Call)]
    prints = [call for call in calls if isinstance(call, ast.Name) and call.id == "print"]
    assert file.startswith("cli/") or not prints


@pytest.mark.parametrize("file", FILES)
def test_everything_public_says_what_it_does(file: str) -> None:
    missing = [name for name, node in public_definitions(file) if not ast.get_docstring(node)]  # type: ignore[arg-type]
    private = file.rpartition("/")[2].startswith("_") and not file.endswith("__.py")
    tests = [name for name in missing if file == "testing.py" and ".test_" in name]  # whose names are sentences
    assert private or [name for name in missing if name not in tests] == []


@pytest.mark.parametrize("file", FILES)
def test_every_module_says_what_it_is_for(file: str) -> None:
    assert ast.get_docstring(tree_of(file))


# At run time -----------------------------------------------------------------------------------------------------


def test_quick_commands_load_nothing_heavy(tmp_path: Path) -> None:
    root = ["--root", str(make_root(tmp_path))]
    light = [["--help"], ["list", *root], ["show", "small", *root]]
    commands = [*light, ["run", "--help"], ["check", *root], ["plan", "small", *root]]
    unasked = ("stn_bench.cli.planning", "stn_bench.tracking", "stn_bench.analysis", "stn_bench.runner")
    code = f"""
import sys
from stn_bench.cli import main
for command in {commands!r}:
    sys.argv = ["stn-bench", *command]
    try:
        main()
    except SystemExit as stop:
        assert not stop.code, command
    unasked = set({unasked!r}) if command in {light!r} else set()
    print("LOADED by", command[0], *sorted({{name.partition(".")[0] for name in sys.modules}} & set({HEAVY!r})))
    assert not unasked & sys.modules.keys(), (command, unasked & sys.modules.keys())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    told = [line.removeprefix("LOADED by ") for line in done.stdout.splitlines() if line.startswith("LOADED")]
    assert told == [command[0] for command in commands]
