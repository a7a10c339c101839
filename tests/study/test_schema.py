from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from makers import ABLATION, STN, STUDY

from stn_bench.study.catalogue import bundled_root
from stn_bench.study.schema import ablation_schema, setting_schemas, study_schema, write_schemas
from stn_bench.subjects.stn.config import Config

ROOT = bundled_root()
COMMITTED = ROOT / "docs/schema"
FILES = [*sorted(ROOT.glob("ablations/*.toml")), *sorted(ROOT.glob("studies/*.toml"))]


def complaints(schema: dict[str, Any], text: str) -> list[str]:
    return [error.message for error in jsonschema.Draft202012Validator(schema).iter_errors(tomllib.loads(text))]


@pytest.mark.parametrize("name", ["ablation.json", "study.json"])
def test_committed_schema_is_what_the_models_say_today(name: str, tmp_path: Path) -> None:
    write_schemas(tmp_path, STN)
    assert (COMMITTED / name).read_text(encoding="utf-8") == (tmp_path / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("schema", [ablation_schema(STN), study_schema(STN)], ids=["ablation", "study"])
def test_schema_is_itself_sound(schema: dict[str, Any]) -> None:
    jsonschema.Draft202012Validator.check_schema(schema)
    assert "$ref" not in json.dumps(schema)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_committed_file_fits_its_schema(file: Path) -> None:
    schema = study_schema(STN) if file.parent.name == "studies" else ablation_schema(STN)
    assert complaints(schema, file.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("question =", "quesion =", "'quesion' was unexpected"),
        ("[arms.narrow]", "[arms.narrow]\nsett = 1", "'sett' was unexpected"),
        ('"model.width"', '"model.widht"', "'model.widht' was unexpected"),
        ("= 0.5", '= "0.5"', "'0.5' is not of type 'number'"),
        ("= 0.5", "= 0.0", "0.0 is less than or equal to the minimum of 0"),
        ("title =", "source =", "'title' is a required property"),
    ],
)
def test_schema_refuses_an_ablation_that_the_reader_refuses(old: str, new: str, complaint: str) -> None:
    assert complaint in " ".join(complaints(ablation_schema(STN), ABLATION.replace(old, new)))


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("seed = 1", "'seed' was unexpected"),
        ('metric = "accuracy"', "'accuracy' is not one of"),
        ("margin = 0", "0 is less than or equal to the minimum of 0"),
        ("[tuning]\ntrails = 3", "'trails' was unexpected"),
        ('[tuning.search]\n"model.width" = { hihg = 1 }', "'hihg' was unexpected"),
        ('[base]\n"train.epochs" = 1.5', "1.5 is not of type 'integer'"),
    ],
)
def test_schema_refuses_a_study_that_the_reader_refuses(line: str, complaint: str) -> None:
    assert complaint in " ".join(complaints(study_schema(STN), f"{STUDY}\n{line}"))


def test_schema_takes_tuning_and_extends() -> None:
    text = 'extends = "x"\n[tuning]\ntrials = 2\n[tuning.search]\n"model.width" = { low = 0.5, high = 1, log = true }'
    assert complaints(study_schema(STN), text) == []


def test_schema_takes_factors() -> None:
    text = 'title = "T"\nquestion = "Q?"\n[factors]\n"model.norm.position" = ["before", "after"]'
    assert complaints(ablation_schema(STN), text) == []


def test_every_setting_has_its_schema() -> None:
    assert tuple(setting_schemas(STN)) == STN.paths


@pytest.mark.parametrize("path", STN.paths)
def test_every_settings_default_fits_its_schema(path: str) -> None:
    schema = setting_schemas(STN)[path]
    default = json.loads(json.dumps(Config().flat()[path]))
    jsonschema.validate(default, schema)
    assert schema["default"] == default


@pytest.mark.parametrize("schema", [ablation_schema(STN), study_schema(STN)], ids=["ablation", "study"])
def test_every_key_of_a_file_says_what_it_is(schema: dict[str, Any]) -> None:
    assert [name for name, field in schema["properties"].items() if not field.get("description")] == []
