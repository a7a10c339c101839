from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from stn_bench.settings import defaults, override
from stn_bench.study.schema import setting_schemas
from stn_bench.study.toml import parse_assignment
from stn_bench.subjects.stn import subject
from stn_bench.subjects.stn.config import Config
from stn_bench.system.errors import ConfigError

ARTICLE = {
    "data.count": 10_000,
    "data.validation": 1_000,
    "data.test": 1_000,
    "data.size": 60,
    "data.alphabet": "ABCDEFGHIJKLMNOPQRSTUVWXYZ",
    "model.width": 1.0,
    "model.dropout": 0.2,
    "model.norm.kind": "batch_renorm",
    "model.norm.position": "after",
    "model.transformer.kind": "affine",
    "optimizer.name": "adam",
    "optimizer.learning_rate": 1e-3,
    "train.batch_size": 32,
    "train.epochs": 400,
}
VALUES = {
    "data.fonts": ("a.ttf", "b.ttf"),
    "data.alphabet": "XY",
    "data.pad": 0.5,
    "model.factory": "my.package:build",
    "model.input_range": "[-1,1]",
    "model.norm.affine": False,
    "optimizer.learning_rate": 1e-05,
    "train.epochs": 3,
}


def as_toml(value: Any) -> str:
    """Write a value as TOML does; JSON writes all of these alike."""
    return json.dumps(value)


@pytest.mark.parametrize(("path", "value"), ARTICLE.items())
def test_default_is_the_articles(path: str, value: object) -> None:
    assert Config().flat()[path] == value


def test_what_validation_and_test_leave_is_for_training() -> None:
    assert Config().data.train == 8_000


def test_unknown_path_suggests_the_nearest() -> None:
    with pytest.raises(
        ConfigError, match=r"x\.toml: no setting `model\.norm\.postion`\. Did you mean `model\.norm\.pos"
    ):
        override(Config(), {"model.norm.postion": "before"}, where="x.toml")


def test_a_group_is_not_a_setting() -> None:
    with pytest.raises(ConfigError, match=r"no setting `model\.norm`"):
        override(Config(), {"model.norm": {"kind": "batch"}})


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        ("train.epochs", "5", "`train.epochs`: input should be a valid integer, got '5'"),
        ("train.epochs", 2.5, "`train.epochs`: input should be a valid integer, got 2.5"),
        ("train.epochs", True, "`train.epochs`: input should be a valid integer, got True"),
        ("model.norm.affine", 1, "`model.norm.affine`: input should be a valid boolean, got 1"),
        ("model.width", "1", "`model.width`: input should be a valid number, got '1'"),
        ("data.fonts", "a.ttf", "`data.fonts`: input should be a list, got 'a.ttf'"),
        (
            "model.norm.kind",
            "group",
            "`model.norm.kind`: input should be 'batch_renorm', 'batch' or 'none', got 'group'",
        ),
    ],
)
def test_wrong_type_says_what_was_expected(path: str, value: object, expected: str) -> None:
    with pytest.raises(ConfigError) as error:
        override(Config(), {path: value}, where="--set")
    assert str(error.value) == f"--set: {expected}"


@pytest.mark.parametrize(
    ("path", "value", "bound"),
    [
        ("train.epochs", 0, "greater than or equal to 1"),
        ("model.dropout", 1.0, "less than 1"),
        ("model.width", 0.0, "greater than 0"),
        ("data.size", 8, "greater than or equal to 16"),
        ("data.seed", 2**32, "less than 4294967296"),
        ("optimizer.learning_rate", float("nan"), "less than or equal to 10"),
        ("optimizer.warmup_epochs", float("nan"), "greater than or equal to 0"),
    ],
)
def test_value_out_of_range_tells_the_range(path: str, value: float, bound: str) -> None:
    with pytest.raises(ConfigError, match=f"`{path}`: input should be {bound}, got {value}"):
        override(Config(), {path: value})


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"optimizer.momentum": 0.9}, "`optimizer.momentum` belongs to sgd, got 0.9 with adam"),
        ({"optimizer.name": "sgd", "optimizer.nesterov": True}, "`optimizer.nesterov` needs an `optimizer.momentum`"),
        ({"optimizer.warmup_epochs": 11.0, "train.epochs": 10}, r"must not exceed `train.epochs`, got 11.0 > 10"),
        (
            {"model.transformer.fill": -0.5},
            r"`model.transformer.fill` must lie in `model.input_range` \[0,1\], got -0.5",
        ),
        ({"data.pad": -1.0}, r"`data.pad` must lie in `model.input_range` \[0,1\], got -1.0"),
        ({"data.count": 2_000}, "must leave at least one training picture .* got 2000 - 1000 - 1000"),
        ({"data.alphabet": "ABA"}, "must not repeat a character, got 'ABA'"),
    ],
)
def test_contradiction_is_refused(overrides: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        override(Config(), overrides)


def test_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Config().train.epochs = 3  # type: ignore[misc]


def test_override_leaves_the_configuration_as_it_was() -> None:
    config = Config()
    override(config, {"train.epochs": 3})
    assert config == Config()


def test_overriding_the_fonts_takes_a_list_as_toml_gives_it() -> None:
    assert override(Config(), {"data.fonts": ["a.ttf"]}).data.fonts == ("a.ttf",)


@pytest.mark.parametrize("path", defaults(Config))
def test_every_setting_says_what_it_is(path: str) -> None:
    assert len(setting_schemas(subject)[path].get("description", "")) > 15


@pytest.mark.parametrize(("input_range", "bound"), [("[0,1]", 0.0), ("[-1,1]", -1.0)])
def test_resolved_fills_in_black_for_pad_and_fill(input_range: str, bound: float) -> None:
    resolved = override(Config(), {"model.input_range": input_range}).resolved()
    assert (resolved.data.pad, resolved.model.transformer.fill) == (bound, bound)


def test_resolved_keeps_what_was_set() -> None:
    resolved = override(Config(), {"data.pad": 0.5, "model.transformer.fill": 1.0}).resolved()
    assert (resolved.data.pad, resolved.model.transformer.fill) == (0.5, 1.0)


@pytest.mark.parametrize("path", defaults(Config))
def test_writing_a_default_out_changes_no_identity(path: str) -> None:
    value = Config().resolved().flat()[path]
    assert override(Config(), {path: value}).canonical() == Config().canonical()


def test_a_whole_number_is_the_same_as_its_float() -> None:
    assert override(Config(), {"model.width": 1}).canonical() == Config().canonical()


@pytest.mark.parametrize(("path", "value"), VALUES.items())
def test_every_setting_counts_in_the_canonical_text(path: str, value: object) -> None:
    assert override(Config(), {path: value}).canonical() != Config().canonical()


def test_canonical_holds_every_path_sorted() -> None:
    assert list(json.loads(Config().canonical())) == sorted(
        set(defaults(Config)) - {"train.timeout"} - set(Config.later)
    )


@pytest.mark.parametrize("path", Config.later)
def test_a_setting_that_came_later_is_in_the_identity_only_where_it_changes_something(path: str) -> None:
    """Runs from before it came are found by the settings that they had."""
    assert defaults(Config)[path] == Config.later[path]
    others = {
        "model.channels": (8, 8, 8),
        "model.transformer.channels": (8, 8, 8),
        "model.transformer.size": 20,
        "train.weights": "last",
    }
    other = override(Config(), {path: True if Config.later[path] is False else others.get(path, 0.5)})
    assert json.loads(other.canonical()).keys() - json.loads(Config().canonical()).keys() == {path}


def test_a_transformer_s_setting_that_repeats_another_is_the_same_as_none() -> None:
    told = {"model.transformer.size": 60, "model.transformer.channels": (512, 256, 64)}
    assert override(Config(), told).canonical() == Config().canonical()


@pytest.mark.parametrize(
    ("path", "value"), [item for item in (Config().resolved().flat() | VALUES).items() if item[1] is not None]
)
def test_set_gives_every_setting_back_as_it_was(path: str, value: object) -> None:
    parsed = dict([parse_assignment(f"{path}={as_toml(value)}", Config)])
    assert override(Config(), parsed).flat()[path] == value


@given(st.floats(min_value=1e-12, max_value=10), st.integers(1, 10**6))
def test_set_keeps_every_digit(rate: float, epochs: int) -> None:
    parsed = dict(
        [
            parse_assignment(f"optimizer.learning_rate={rate!r}", Config),
            parse_assignment(f"train.epochs={epochs}", Config),
        ]
    )
    config = override(Config(), parsed)
    assert (config.optimizer.learning_rate, config.train.epochs) == (rate, epochs)


def test_set_needs_no_quotes_around_text() -> None:
    assert parse_assignment("model.factory = pkg.module:build", Config) == ("model.factory", "pkg.module:build")


def test_set_keeps_digits_as_text_where_the_setting_is_text() -> None:
    assert parse_assignment("data.alphabet=0123", Config) == ("data.alphabet", "0123")


def test_set_without_an_equals_sign_shows_how() -> None:
    with pytest.raises(ConfigError, match=r"--set train\.epochs: expected PATH=VALUE, for example"):
        parse_assignment("train.epochs", Config)


def test_set_of_an_unknown_path_suggests_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"--set: no setting `train\.epoch`\. Did you mean `train\.epochs`\?"):
        parse_assignment("train.epoch=3", Config)
