"""Commands about what is written in files: list, show, check."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Annotated, Any, TypeVar

import typer
from rich.text import Text

from stn_bench.cli.options import AsJson, Root, console, print_json
from stn_bench.study.catalogue import Catalogue, Kind
from stn_bench.study.spec import Ablation, Study
from stn_bench.system.errors import CatalogueError, ConfigError, StnBenchError
from stn_bench.system.format import counted
from stn_bench.system.text import printable
from stn_bench.system.workspace import Workspace

KINDS: tuple[Kind, ...] = ("ablations", "studies")


def list_all(root: Root = None, as_json: AsJson = False) -> None:
    """List the ablations and studies, with their questions: the root's own, then those that come with stn-bench."""
    catalogue = Catalogue(Workspace.at(root).root)
    ablations, unsound = _sound(catalogue.names("ablations"), catalogue.ablation)
    studies, more = _sound(catalogue.names("studies"), catalogue.study)
    if as_json:
        own = {"ablations": [_about(a) for a in ablations], "studies": [_about_study(s) for s in studies]}
        found = {
            kind: [{**one, "bundled": catalogue.is_bundled(kind, one["name"])} for one in own[kind]] for kind in KINDS
        }
        print_json({**found, "unsound": [*unsound, *more]})
    else:
        _print_list(catalogue, ablations, studies)
    _complain([*unsound, *more])


Found = TypeVar("Found")


def _sound(names: Iterable[str], read: Callable[[str], Found]) -> tuple[list[Found], list[str]]:
    """Return what can be read, and why the others cannot, each reason once."""
    found, unsound = list[Found](), dict[str, None]()
    for name in names:
        try:
            found.append(read(name))
        except StnBenchError as error:
            unsound[str(error)] = None
    return found, list(unsound)


def _complain(reasons: Iterable[str]) -> None:
    for line in dict.fromkeys(reasons):
        print(f"stn-bench: {printable(line)}", file=sys.stderr)


def _print_list(catalogue: Catalogue, ablations: Sequence[Ablation], studies: Sequence[Study]) -> None:
    for is_bundled in (False, True):
        asked = [one for one in ablations if catalogue.is_bundled("ablations", one.name) == is_bundled]
        planned = [one for one in studies if catalogue.is_bundled("studies", one.name) == is_bundled]
        if not asked and not planned:
            if not is_bundled:
                told = f"{catalogue.root} has none of its own; `stn-bench new NAME` writes one\n"
                console.print(Text(told), soft_wrap=True)
            continue
        whose = ", which come with stn-bench" if is_bundled else ""
        _print_kind(f"ablations{whose}", [(one.name, _ablation_lines(one)) for one in asked])
        _print_kind(f"studies{whose}", [(one.name, _study_lines(one)) for one in planned])


def _print_kind(title: str, entries: Sequence[tuple[str, Iterable[Text]]]) -> None:
    if entries:
        console.print(f"[dim]{title}[/]")
        for name, lines in entries:
            _print_entry(name, lines)
        console.print()


def _ablation_lines(ablation: Ablation) -> tuple[Text, ...]:
    arms = ", ".join(arm.name for arm in ablation.arms)
    return (Text(ablation.question), Text(ablation.source, "dim"), Text(f"arms: {arms}"))


def _study_lines(study: Study) -> tuple[Text, ...]:
    return (Text(study.title), Text(f"{len(study.seeds)} seeds, {', '.join(study.ablations)}"))


def _print_entry(name: str, lines: Iterable[Text]) -> None:
    console.print(f"[bold]{name}[/]")
    for line in lines:
        console.print(Text.assemble("  ", line), soft_wrap=True)


def show(
    name: Annotated[str, typer.Argument(help="Name of an ablation or of a study.")],
    root: Root = None,
    as_json: AsJson = False,
) -> None:
    """Show one ablation or study: its question, its arms, its settings."""
    catalogue = Catalogue(Workspace.at(root).root)
    is_study = name in catalogue.names("studies") and name not in catalogue.names("ablations")
    found: Study | Ablation = catalogue.study(name) if is_study else catalogue.ablation(name)
    about = _about_study(found) if isinstance(found, Study) else _about(found)
    if as_json:
        print_json(about)
        return
    arms = about.pop("arms", [])
    for key, value in about.items():
        if value not in ("", {}, []):
            console.print(Text.assemble((key, "bold"), ": ", _plain(value)))
    for arm in arms:
        console.print(Text.assemble("  ", (arm["name"], "bold"), ": ", _plain(arm["set"])), end="")
        console.print(f"  (published: {_plain(arm['published'])})" if arm["published"] else "")


def check(root: Root = None) -> None:
    """Check every ablation and study file, and that each study can be planned; tell of all that cannot."""
    workspace = Workspace.at(root)
    catalogue = Catalogue(workspace.root)
    names = {kind: catalogue.names(kind) for kind in KINDS}
    flagged, reasons = _sound(names["studies"], lambda name: _check_study(name, workspace))
    # What a study that is named above does not say of its subject is no fault of its ablations.
    misses = catalogue.may_miss_subject if reasons else lambda name: False
    _, more = _sound((name for name in names["ablations"] if not misses(name)), catalogue.ablation)
    if reasons := list(dict.fromkeys([*reasons, *more])):
        _complain(reasons)
        raise typer.Exit(2)
    for note in itertools.chain.from_iterable(flagged):
        console.print(f"! {note}", soft_wrap=True, markup=False)
    own = [sum(not catalogue.is_bundled(kind, one) for one in names[kind]) for kind in KINDS]
    ours = f"{counted(own[0], 'ablation')} and {own[1]} {'study' if own[1] == 1 else 'studies'} of its own; "
    with_bundled = f"{len(names['ablations'])} ablations and {len(names['studies'])} studies are sound"
    console.print(f"{ours}with those that come with stn-bench, {with_bundled}", soft_wrap=True)


def _check_study(name: str, workspace: Workspace) -> list[str]:
    """Check that a study can be planned, that its data are there, and that the code that its arms name is.

    Returns:
        What it can never tell, though it asks: the effects of factors whose combinations are not all trained.
    """
    from stn_bench.analysis.factorial import never_told
    from stn_bench.study.load import load_plan
    from stn_bench.tracking.identity import identify
    from stn_bench.tracking.results import check_data, fingerprint_of

    planned = load_plan(name, workspace)
    for arm in planned.arms:
        try:
            fingerprint_of(arm.settings, planned.subject, workspace.datasets)
            identify(planned.subject, arm.settings, 0, "")
        except ConfigError as error:
            raise CatalogueError(f"studies/{name}.toml: {arm.label}: {error}") from None
    check_data(planned, workspace.datasets)
    return [
        f"studies/{name}.toml: {question.ablation.name}: its factors' effects cannot be told: {why}"
        for question in planned.questions
        if (why := never_told(question))
    ]


def _about(ablation: Ablation) -> dict[str, Any]:
    return ablation.model_dump(mode="json", exclude={"factors"} if not ablation.factors else set())


def _about_study(study: Study) -> dict[str, Any]:
    return study.model_dump(mode="json")


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} = {_plain(item)}" for key, item in value.items())
    return ", ".join(map(_plain, value)) if isinstance(value, list) else str(value)


__all__ = ["check", "list_all", "show"]
