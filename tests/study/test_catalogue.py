from __future__ import annotations

from pathlib import Path

import pytest
from makers import ABLATION, STUDY, make_root, write

from stn_bench.study.catalogue import Catalogue, bundled_root, load
from stn_bench.study.extends import inherit
from stn_bench.study.plan import make_plan
from stn_bench.study.spec import Range
from stn_bench.system.errors import CatalogueError

COMMITTED = Catalogue(bundled_root())
HEAD = 'title = "T"\nquestion = "Q?"\n'


def read_ablation(folder: Path, text: str) -> object:
    return Catalogue(make_root(folder, ablation=text)).ablation("depth")


def read_study(folder: Path, text: str) -> object:
    return Catalogue(make_root(folder, study=text)).study("small")


@pytest.mark.parametrize("name", COMMITTED.names("ablations"))
def test_committed_ablation_asks_a_question_with_arms(name: str) -> None:
    ablation = COMMITTED.ablation(name)
    assert ablation.question.endswith("?")
    assert ablation.source
    assert ablation.arms


@pytest.mark.parametrize("name", COMMITTED.names("studies"))
def test_committed_study_can_be_planned(name: str) -> None:
    planned = make_plan(*load(bundled_root(), name))
    assert planned.jobs() > 0


def test_quickstart_is_among_the_committed_studies() -> None:
    assert "quickstart" in COMMITTED.names("studies")


def test_toml_error_tells_file_and_line(tmp_path: Path) -> None:
    with pytest.raises(CatalogueError, match=r"depth\.toml: not valid TOML: .*line 2"):
        read_ablation(tmp_path, 'title = "T"\nquestion = oops\n')


@pytest.mark.parametrize("content", [b"\xff\xfe", HEAD.encode("utf-16"), HEAD.encode("utf-16-be"), b"\xff = 1"])
def test_a_file_that_is_not_utf_8_is_refused(tmp_path: Path, content: bytes) -> None:
    make_root(tmp_path).joinpath("ablations/depth.toml").write_bytes(content)
    with pytest.raises(CatalogueError, match=r"depth\.toml: cannot be read as UTF-8 text \("):
        Catalogue(tmp_path).ablation("depth")


def test_files_with_a_byte_order_mark_and_the_line_ends_of_windows_are_read(tmp_path: Path) -> None:
    root = make_root(tmp_path, study=STUDY + "[base]\n", ablation=ABLATION)
    write(root / "studies/wider.toml", 'title = "W"\nextends = "small"\n')
    plain = load(root, "wider")
    for path in (*root.glob("ablations/*.toml"), *root.glob("studies/*.toml")):
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    assert load(root, "wider") == plain


def test_a_broken_ablation_hides_no_other(tmp_path: Path) -> None:
    """Its own study tells of it, and the plan of another one asks nothing of it."""
    root = make_root(tmp_path)
    write(root / "ablations/broken.toml", "title = [")
    write(root / "studies/asks.toml", STUDY.replace('"depth"', '"broken"'))
    assert make_plan(*load(root, "small")).jobs() > 0
    with pytest.raises(CatalogueError, match=r"broken\.toml: not valid TOML"):
        load(root, "asks")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (HEAD + 'quesion = "x"', "unknown key `quesion`. Did you mean `question`?"),
        (HEAD + "[arms.a]\nsett = {}", r"\[arms.a\]: unknown key `sett`. Did you mean `set`\?"),
        (
            HEAD + '[arms.a]\nset = { "model.widht" = 1 }',
            r"\[arms.a\]: no setting `model.widht`. Did you mean `model.width`",
        ),
        (
            HEAD + '[arms.a]\nset = { "model.width" = "1" }',
            r"\[arms.a\]: `model.width`: input should be a valid number",
        ),
        (HEAD + "[arms.a]\nset = 3", r"\[arms.a\]: expected a table, got 3"),
        (
            HEAD + '[base]\n"train.epoch" = 3\n[arms.a]',
            r"\[base\]: no setting `train.epoch`. Did you mean `train.epochs`",
        ),
        (HEAD + "arms = 3", "`arms`: expected tables"),
        (HEAD, r"expected at least one \[arms.NAME\], or \[factors\]"),
        (HEAD + "[arms.base]", r"\[arms.base\]: expected a name .* other than `base`"),
        (HEAD + "[arms.Bad-name]", r"\[arms.Bad-name\]: expected a name of small letters"),
        (HEAD + '[factors]\n"model.width" = [0.5]', r"\[factors\] `model.width`: expected a list of two or more"),
        (HEAD + '[factors]\n"model.width" = [0.5, "x"]', r"`model.width`: input should be a valid number, got 'x'"),
        ('title = "T"\n[arms.a]', "`question`: field required"),
    ],
)
def test_ablation_that_cannot_be_used_says_why(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(CatalogueError, match=message):
        read_ablation(tmp_path, text)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("seed = [1]", "unknown key `seed`. Did you mean `seeds`?"),
        ('metric = "test.acuracy"', "no metric `test.acuracy`. Did you mean `test.accuracy`"),
        ('direction = "up"', "`direction`: input should be 'maximize' or 'minimize', got 'up'"),
        ("margin = 0", "`margin`: input should be greater than 0, got 0"),
        ("[tuning]\ntrials = 3", "`tuning.trials` and `tuning.search` belong together, got 3 trials over 0"),
        ("[tuning]\ntrails = 3", r"\[tuning\]: unknown key `trails`. Did you mean `trials`"),
        (
            '[base]\n"train.epochs" = "5"',
            "small.toml: .base.: `train.epochs`: input should be a valid integer, got '5'",
        ),
        ('[base]\n"train.epoch" = 5', r"\[base\]: no setting `train.epoch`. Did you mean `train.epochs`"),
        ('extends = "smal"', "no study `smal`. Did you mean `small`"),
    ],
)
def test_study_that_cannot_be_used_says_why(tmp_path: Path, line: str, message: str) -> None:
    make_root(tmp_path, study=f"{STUDY}\n{line}\n")
    with pytest.raises(CatalogueError, match=message):
        make_plan(*load(tmp_path, "small"))


@pytest.mark.parametrize(
    ("seeds", "message"),
    [
        ("[1, 2, 1]", "`seeds` must differ from one another, got 1 more than once"),
        ("[]", "`seeds`: .*at least 1 item"),
        ("[-1]", "`seeds` must lie between 0 and 2"),
        ("[1, 1000]", "`tuning.seed` must not be one of `seeds`, got 1000 in both"),
        ("[1.5]", r"`seeds.0`: input should be a valid integer"),
    ],
)
def test_seeds_that_cannot_be_used_say_why(tmp_path: Path, seeds: str, message: str) -> None:
    with pytest.raises(CatalogueError, match=message):
        read_study(tmp_path, STUDY.replace("[1, 2, 3]", seeds))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ("{ low = 1e-4 }", "`low` must be below `high`, got low=0.0001 and high=None"),
        ("{ low = 2, high = 1 }", "`low` must be below `high`"),
        ("{ low = 0, high = 1, log = true }", "`log` needs an interval with `low` above 0"),
        ("{ low = 1e-4, high = 1e-2, choices = [1e-3] }", "either `low` and `high`, or `choices`"),
        ("{ low = 1e-4, hihg = 1e-2 }", "`optimizer.learning_rate`: unknown key `hihg`. Did you mean `high`"),
    ],
)
def test_range_that_cannot_be_searched_says_why(tmp_path: Path, values: str, message: str) -> None:
    with pytest.raises(CatalogueError, match=message):
        read_study(tmp_path, f'{STUDY}\n[tuning]\ntrials = 2\n[tuning.search]\n"optimizer.learning_rate" = {values}\n')


def test_missing_ablation_is_named_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(CatalogueError, match=r"small\.toml: `ablations`: .*no ablation `deth`. Did you mean `depth`"):
        read_study(tmp_path, STUDY.replace('"depth"', '"deth"'))


def test_missing_study_is_named_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(CatalogueError, match=r"studies: no study `smal`\. Did you mean `small`"):
        Catalogue(make_root(tmp_path)).study("smal")


def test_missing_study_lists_the_known_where_none_is_near(tmp_path: Path) -> None:
    with pytest.raises(CatalogueError, match=r"no study `xyz`. Known: .*small"):
        Catalogue(make_root(tmp_path)).study("xyz")


def test_bare_keys_mean_the_same_as_quoted_ones(tmp_path: Path) -> None:
    bare = read_ablation(tmp_path / "a", ABLATION.replace('"model.width"', "model.width"))
    assert bare == read_ablation(tmp_path / "b", ABLATION)


def test_bare_keys_mean_the_same_in_a_study(tmp_path: Path) -> None:
    tuning = '[tuning]\ntrials = 2\n[tuning.search]\n"model.width" = { low = 0.5, high = 1 }\n'
    quoted = f'\n[base]\n"train.epochs" = 2\n{tuning}'
    bare = quoted.replace('"', "")
    assert read_study(tmp_path / "a", STUDY + bare) == read_study(tmp_path / "b", STUDY + quoted)


def test_factors_make_the_product_without_the_bases_own(tmp_path: Path) -> None:
    factors = '[factors]\n"model.norm.position" = ["before", "after"]\n"model.norm.affine" = [true, false]\n'
    ablation = Catalogue(make_root(tmp_path, ablation=HEAD + factors)).ablation("depth")
    assert {arm.name: tuple(arm.set.values()) for arm in ablation.arms} == {
        "before_true": ("before", True),
        "before_false": ("before", False),
        "after_false": ("after", False),
    }


def test_factors_with_levels_below_zero_make_arms_of_different_names(tmp_path: Path) -> None:
    factors = '[base]\n"model.input_range" = "[-1,1]"\n[factors]\n"data.pad" = [-0.5, 0.5]\n'
    ablation = Catalogue(make_root(tmp_path, ablation=HEAD + factors)).ablation("depth")
    assert [arm.name for arm in ablation.arms] == ["minus_0_5", "0_5"]


def test_arms_of_the_same_name_are_refused(tmp_path: Path) -> None:
    text = HEAD + '[arms.0_5]\nset = { "model.width" = 0.25 }\n[factors]\n"model.width" = [0.5, 1.0]\n'
    with pytest.raises(CatalogueError, match="two arms named `0_5`"):
        read_ablation(tmp_path, text)


def test_extends_merges_tables_and_replaces_values(tmp_path: Path) -> None:
    make_root(tmp_path, study=STUDY + '\n[base]\n"train.epochs" = 5\n"model.width" = 0.5\n')
    write(tmp_path / "studies/child.toml", 'extends = "small"\nseeds = [7, 8]\n[base]\n"train.epochs" = 9\n')
    child = Catalogue(tmp_path).study("child")
    assert (child.name, child.title, child.seeds) == ("child", "A study", (7, 8))
    assert child.base == {"train.epochs": 9, "model.width": 0.5}


RATE, SEARCHED = '"optimizer.learning_rate"', "[tuning]\ntrials = 2\n[tuning.search]\n"


@pytest.mark.parametrize(
    ("values", "found"),
    [
        ("{ choices = [0.1, 0.2] }", Range(choices=(0.1, 0.2))),
        ("{ low = 0.0, high = 1.0 }", Range(low=0.0, high=1.0)),
        ("{ low = 0.1, high = 0.2 }", Range(low=0.1, high=0.2)),
    ],
)
@pytest.mark.parametrize("written", [f"{RATE} =", "optimizer.learning_rate ="])
def test_a_range_replaces_the_parents_whole(tmp_path: Path, written: str, values: str, found: Range) -> None:
    make_root(tmp_path, study=f"{STUDY}\n{SEARCHED}{RATE} = {{ low = 1e-3, high = 1e-2, log = true }}\n")
    write(tmp_path / "studies/child.toml", f'extends = "small"\n[tuning.search]\n{written} {values}\n')
    assert Catalogue(tmp_path).study("child").tuning.search == {"optimizer.learning_rate": found}


@pytest.mark.parametrize("child", ['[base]\n"model.width" = 2.0\n', "[base.model]\nwidth = 2.0\n"])
@pytest.mark.parametrize("parent", ['[base]\n"model.width" = 0.5\n', "[base.model]\nwidth = 0.5\n"])
def test_a_child_sets_what_its_parent_does_whichever_way_each_writes_it(
    tmp_path: Path, parent: str, child: str
) -> None:
    make_root(tmp_path, study=f"{STUDY}\n{parent}")
    write(tmp_path / "studies/child.toml", f'extends = "small"\n{child}')
    assert Catalogue(tmp_path).study("child").base == {"model.width": 2.0}


def test_a_child_that_sets_a_thing_twice_is_refused(tmp_path: Path) -> None:
    make_root(tmp_path, study=f'{STUDY}\n[base]\n"model.width" = 0.5\n')
    twice = '[base]\n"model.width" = 2.0\nmodel.width = 1.0\n'
    write(tmp_path / "studies/child.toml", f'extends = "small"\n{twice}')
    with pytest.raises(CatalogueError, match=r"`model\.width` is set twice"):
        Catalogue(tmp_path).study("child")


@pytest.mark.parametrize("arm", ["", '[arms.wide]\nset = { "model.width" = 2.0 }\n'])
def test_a_published_accuracy_of_pictures_is_a_fraction(tmp_path: Path, arm: str) -> None:
    text = f"{HEAD}published_pictures = 1000\n{arm}published = {{ accuracy = 99.4 }}\n"
    with pytest.raises(CatalogueError, match=r"expected `accuracy` as a fraction of 1000 pictures, .*; got 99\.4"):
        read_ablation(tmp_path, text)


def test_the_arm_that_answers_is_one_of_the_questions_arms(tmp_path: Path) -> None:
    arms = '[arms.wide]\nset = { "model.width" = 2.0 }\n'
    assert read_ablation(tmp_path, f'{HEAD}answer = "wide"\n{arms}').answer == "wide"  # type: ignore[attr-defined]
    with pytest.raises(CatalogueError, match=r"depth\.toml: `answer`: no arm `wied` here\. Did you mean `wide`"):
        read_ablation(tmp_path, f'{HEAD}answer = "wied"\n{arms}')
    with pytest.raises(CatalogueError, match=r"depth\.toml: `answer`: no arm `base` here"):
        read_ablation(tmp_path, f'{HEAD}answer = "base"\n{arms}')


def test_names_that_are_those_of_a_ranges_keys_are_settings_like_others(tmp_path: Path) -> None:
    """What a table holds tells a range from a group, and in [base] there is no range."""
    parent = {"base": {"low": 0.1, "depth": 4, "high": 1.0}, "arms": {"log": ["a"], "other": ["b"]}}
    found = inherit(parent, {"base": {"low": 0.2}, "arms": {"low": ["c"]}})
    assert found["base"] == {"low": 0.2, "depth": 4, "high": 1.0}
    assert found["arms"] == {"log": ["a"], "other": ["b"], "low": ["c"]}
    assert inherit({"base": {"noise": {"low": 0.1, "high": 1.0}}}, {"base": {"noise.high": 0.9}})["base"] == {
        "noise.low": 0.1,
        "noise.high": 0.9,
    }


@pytest.mark.parametrize("child", [{"tuning": 3}, {"base": 3}])
def test_a_wrong_form_is_left_for_whoever_reads_the_study(child: dict[str, object]) -> None:
    parent = {"base": {"a": 1}, "tuning": {"trials": 2, "search": {"b": {"low": 1, "high": 2}}}}
    assert inherit(parent, child) == {**parent, **child}
    assert inherit(parent, {"tuning": {"search": 3}})["tuning"] == {"trials": 2, "search": 3}


def test_extends_in_a_circle_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "studies/one.toml", 'extends = "two"')
    write(tmp_path / "studies/two.toml", 'extends = "one"')
    with pytest.raises(CatalogueError, match=r"one\.toml: `extends` forms a cycle through two\.toml"):
        Catalogue(tmp_path).study("one")


def test_a_file_under_the_root_shadows_the_bundled_one(tmp_path: Path) -> None:
    write(tmp_path / "ablations/transformer.toml", ABLATION)
    assert Catalogue(tmp_path).ablation("transformer").title == "Width"


def test_bundled_files_are_found_from_any_root(tmp_path: Path) -> None:
    assert set(COMMITTED.names("studies")) <= set(Catalogue(tmp_path).names("studies"))


def test_file_name_must_be_a_name(tmp_path: Path) -> None:
    write(tmp_path / "ablations/My Question.toml", ABLATION)
    with pytest.raises(CatalogueError, match=r"expected a name of small letters, digits and _, .* got `My Question`"):
        Catalogue(tmp_path).ablation("My Question")


def test_choices_keep_their_types(tmp_path: Path) -> None:
    study = read_study(
        tmp_path, f'{STUDY}\n[tuning]\ntrials = 2\n[tuning.search]\n"train.batch_size" = {{ choices = [16, 32] }}\n'
    )
    assert study.tuning.search["train.batch_size"] == Range(choices=(16, 32))  # type: ignore[attr-defined]
    assert [type(one) for one in study.tuning.search["train.batch_size"].choices] == [int, int]  # type: ignore[attr-defined]


CLAIM = """
[[claims]]
says = "Narrow is worse"
asked = "narrow against the base"
arm = "narrow"
expect = "worse"
"""


def test_claims_are_read(tmp_path: Path) -> None:
    (claim,) = Catalogue(make_root(tmp_path, ablation=ABLATION + CLAIM)).ablation("depth").claims
    assert (claim.arm, claim.against, claim.expect, claim.metric) == ("narrow", "base", "worse", "")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('arm = "narrow"', 'arm = "narow"', r"\[\[claims\]\] no arm `narow` here. Did you mean `narrow`\?"),
        ('expect = "worse"', 'expect = "worse"\nagainst = "wide"', r"no arm `wide` here"),
        ('expect = "worse"', 'expect = "bad"', r"\[\[claims\]\]: `expect`: input should be 'better' or 'worse'"),
        ('expect = "worse"', 'metric = "test.acuracy"', r"no metric `test.acuracy`. Did you mean `test.accuracy`"),
        ('expect = "worse"', "wish = 1", r"\[\[claims\]\]: unknown key `wish`"),
    ],
)
def test_a_claim_that_cannot_be_tested_is_refused(tmp_path: Path, old: str, new: str, message: str) -> None:
    with pytest.raises(CatalogueError, match=message):
        read_ablation(tmp_path, ABLATION + CLAIM.replace(old, new))


def test_claims_must_be_a_list_of_tables(tmp_path: Path) -> None:
    with pytest.raises(CatalogueError, match=r"`claims`: expected tables \[\[claims\]\]"):
        read_ablation(tmp_path, "claims = 3\n" + ABLATION)


def test_a_study_may_keep_some_arms_of_an_ablation(tmp_path: Path) -> None:
    wider = ABLATION + '[arms.wide]\nset = { "model.width" = 2.0 }\n' + CLAIM
    make_root(tmp_path, study=STUDY + 'arms = { depth = ["wide"] }\n', ablation=wider)
    _, (kept,), _ = load(tmp_path, "small")
    assert [arm.name for arm in kept.arms] == ["wide"]
    assert kept.claims == (), "a claim about an arm that was left out is not asked"


@pytest.mark.parametrize(
    ("arms", "message"),
    [
        ('{ depth = ["narow"] }', r"`arms.depth`: no arm `narow` there. Did you mean `narrow`"),
        ('{ depht = ["narrow"] }', r"name only ablations of the study, got `depht`. Did you mean `depth`"),
    ],
)
def test_an_arm_that_cannot_be_kept_is_refused(tmp_path: Path, arms: str, message: str) -> None:
    make_root(tmp_path, study=STUDY + f"arms = {arms}\n")
    with pytest.raises(CatalogueError, match=message):
        load(tmp_path, "small")


def test_an_arm_cannot_be_matched_and_set_its_width(tmp_path: Path) -> None:
    root = make_root(tmp_path, ablation=ABLATION + 'match = "flops"\n')
    with pytest.raises(CatalogueError, match=r"\[arms.narrow\]: `match` finds `model.width`, so the arm must not set"):
        make_plan(*load(root, "small"))


PARENT = (
    STUDY.replace('["depth"]', '["depth", "other"]')
    + """
arms = { depth = ["narrow"] }
[tuning]
trials = 2
ablations = ["depth"]
search."optimizer.learning_rate" = { low = 1e-3, high = 1e-2 }
"""
)


@pytest.mark.parametrize(
    ("child", "arms", "trials", "tuned"),
    [
        ('ablations = ["other"]', {}, 0, ()),  # nothing of what the parent says is about this
        ('ablations = ["other"]\ntuning.trials = 3', {}, 3, ()),  # the child tunes, so all of its ablations
        ('ablations = ["depth"]', {"depth": ("narrow",)}, 2, ("depth",)),
        ('title = "Longer"', {"depth": ("narrow",)}, 2, ("depth",)),
        ('ablations = ["other"]\narms = { other = ["narrow"] }', {"other": ("narrow",)}, 0, ()),
    ],
)
def test_what_the_parent_says_of_dropped_ablations_goes(
    tmp_path: Path, child: str, arms: dict[str, tuple[str, ...]], trials: int, tuned: tuple[str, ...]
) -> None:
    root = make_root(tmp_path, study=PARENT)
    write(root / "ablations/other.toml", ABLATION)
    write(root / "studies/child.toml", f'extends = "small"\n{child}\n')
    study = Catalogue(root).study("child")
    assert (study.arms, study.tuning.trials, study.tuning.ablations) == (arms, trials, tuned)
