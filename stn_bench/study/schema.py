"""JSON schemas of ablation and study files, for editors; made from the same models that read the files."""

from __future__ import annotations

import ast
import functools
import inspect
import itertools
import json
import textwrap
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema

from stn_bench.study.spec import Ablation, Arm, Claim, Published, Range, Study, Tuning
from stn_bench.subject import Subject

DRAFT = "https://json-schema.org/draft/2020-12/schema"
Schema = dict[str, Any]


class _Described(GenerateJsonSchema):
    """Schemas in which a field that says nothing of itself is described by its docstring."""

    def model_schema(self, schema: Any) -> Schema:
        made = super().model_schema(schema)
        told = _docstrings(schema["cls"])
        for name, field in made.get("properties", {}).items():
            if name in told:
                field.setdefault("description", told[name])
        return made


def _docstrings(model: type[BaseModel]) -> dict[str, str]:
    """Return the docstrings of a model's fields, its own before those of the classes that it extends."""
    found = dict[str, str]()
    for kind in reversed(model.__mro__):
        if issubclass(kind, BaseModel) and kind is not BaseModel:
            found |= _own_docstrings(kind)
    return found


@functools.cache
def _own_docstrings(kind: type[BaseModel]) -> dict[str, str]:
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(kind)))
    except (OSError, SyntaxError):  # made while running: it has no source
        return {}
    body = getattr(tree.body[0], "body", [])
    return {
        field.target.id: inspect.cleandoc(said.value.value)
        for field, said in itertools.pairwise(body)
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
        if isinstance(said, ast.Expr) and isinstance(said.value, ast.Constant) and isinstance(said.value.value, str)
    }


def _schema_of(model: type[BaseModel]) -> Schema:
    return model.model_json_schema(schema_generator=_Described)


def write_schemas(folder: Path, subject: Subject) -> list[Path]:
    """Write `ablation.json` and `study.json`, with a subject's settings and metrics, and return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, schema in (("ablation", ablation_schema(subject)), ("study", study_schema(subject))):
        path = folder / f"{name}.json"
        path.write_text(json.dumps(schema, indent=1) + "\n", encoding="utf-8")
        paths.append(path)
    return paths


def ablation_schema(subject: Subject) -> Schema:
    """Return the schema of `ablations/NAME.toml`."""
    arm = _file_schema(Arm)
    arm["properties"] |= {"set": overrides_schema(subject), "search": _search_schema(subject)}
    claim = _file_schema(Claim)
    claim["properties"] |= {"needs": overrides_schema(subject, "Settings that the study must have to ask the claim.")}
    if subject.metrics:
        claim["properties"]["metric"]["enum"] = ["", *subject.known_metrics]
    schema = _file_schema(Ablation)
    schema["properties"] |= {
        "claims": {"type": "array", "description": "Published claims about the question.", "items": claim},
        "base": overrides_schema(subject, "Overrides that the question needs in every arm, the base included."),
        "arms": {"type": "object", "description": "The arms by name.", "additionalProperties": arm},
        "factors": _factors_schema(subject),
    }
    schema["required"] = ["title", "question"]
    return {"$schema": DRAFT, "title": "stn-bench ablation", **schema}


def study_schema(subject: Subject) -> Schema:
    """Return the schema of `studies/NAME.toml`."""
    tuning = _file_schema(Tuning)
    tuning["properties"]["search"] = _search_schema(subject)
    schema = _file_schema(Study)
    schema["properties"] |= {
        "extends": {"type": "string", "description": "Name of a study to start from."},
        "base": overrides_schema(subject, "Overrides of the defaults, for every arm."),
        "tuning": tuning,
        "published": _file_schema(Published),
    }
    if subject.metrics:
        schema["properties"]["metric"]["enum"] = ["", *subject.known_metrics]
    schema["required"] = []
    return {"$schema": DRAFT, "title": "stn-bench study", **schema}


def overrides_schema(subject: Subject, description: str = "Overrides of the base, by dotted path.") -> Schema:
    """Return the schema of a table of overrides: every dotted path, with its type and its meaning."""
    return {
        "type": "object",
        "description": description,
        "properties": setting_schemas(subject),
        "additionalProperties": False,
    }


def setting_schemas(subject: Subject) -> dict[str, Schema]:
    """Return the schema of every setting by its dotted path."""
    schema = _schema_of(subject.settings)
    found: dict[str, Schema] = {}

    def collect(node: Schema, prefix: str) -> None:
        for name, field in node["properties"].items():
            group = field.get("$ref") or next((one["$ref"] for one in field.get("allOf", ()) if "$ref" in one), None)
            if group:
                collect(schema["$defs"][group.rpartition("/")[2]], f"{prefix}{name}.")
            else:
                found[prefix + name] = {key: value for key, value in field.items() if key != "title"}

    collect(schema, "")
    return found


def _file_schema(model: type[Ablation | Arm | Claim | Published | Study | Tuning]) -> Schema:
    """Return a model's schema as its file sees it: without the name, which is the file's own."""
    schema = _schema_of(model)
    properties = {
        name: {key: value for key, value in field.items() if key not in ("title", "$ref")}
        for name, field in schema["properties"].items()
        if name != "name"
    }
    return {
        "type": "object",
        "description": schema["description"].partition("\n")[0],  # what follows is about code
        "properties": properties,
        "required": [name for name in schema.get("required", ()) if name != "name"],
        "additionalProperties": False,
    }


def _search_schema(subject: Subject) -> Schema:
    schema = _schema_of(Range)
    values = {
        "type": "object",
        "description": schema["description"],
        "properties": schema["properties"],
        "additionalProperties": False,
    }
    return {
        "type": "object",
        "description": "Settings to search, by dotted path.",
        "properties": dict.fromkeys(setting_schemas(subject), values),
        "additionalProperties": False,
    }


def _factors_schema(subject: Subject) -> Schema:
    levels = {path: {"type": "array", "items": one, "minItems": 2} for path, one in setting_schemas(subject).items()}
    return {
        "type": "object",
        "description": "Settings and their values, whose product makes the arms.",
        "properties": levels,
        "additionalProperties": False,
    }
