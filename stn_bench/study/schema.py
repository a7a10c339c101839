"""JSON schemas of ablation and study files, for editors; made from the same models that read the files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from stn_bench.study.catalogue import Ablation, Arm, Claim, Range, Study, Tuning
from stn_bench.subjects.stn.config import Config
from stn_bench.subjects.stn.metrics import METRICS

DRAFT = "https://json-schema.org/draft/2020-12/schema"
Schema = dict[str, Any]


def write_schemas(folder: Path) -> list[Path]:
    """Write `ablation.json` and `study.json` to a folder and return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, schema in (("ablation", ablation_schema()), ("study", study_schema())):
        path = folder / f"{name}.json"
        path.write_text(json.dumps(schema, indent=1) + "\n", encoding="utf-8")
        paths.append(path)
    return paths


def ablation_schema() -> Schema:
    """Return the schema of `ablations/NAME.toml`."""
    arm = _file_schema(Arm)
    arm["properties"] |= {"set": overrides_schema(), "search": _search_schema()}
    claim = _file_schema(Claim)
    claim["properties"] |= {"needs": overrides_schema("Settings without which the claim is not asked.")}
    claim["properties"]["metric"]["enum"] = ["", *METRICS]
    schema = _file_schema(Ablation)
    schema["properties"] |= {
        "claims": {"type": "array", "description": "What others claim about the question.", "items": claim},
        "base": overrides_schema("Overrides that the question needs in every arm, the base included."),
        "arms": {"type": "object", "description": "The arms by name.", "additionalProperties": arm},
        "factors": _factors_schema(),
    }
    schema["required"] = ["title", "question"]
    return {"$schema": DRAFT, "title": "stn-bench ablation", **schema}


def study_schema() -> Schema:
    """Return the schema of `studies/NAME.toml`."""
    tuning = _file_schema(Tuning)
    tuning["properties"]["search"] = _search_schema()
    schema = _file_schema(Study)
    schema["properties"] |= {
        "extends": {"type": "string", "description": "Name of a study to start from."},
        "base": overrides_schema("Overrides of the defaults, for every arm."),
        "tuning": tuning,
    }
    schema["properties"]["metric"]["enum"] = list(METRICS)
    schema["required"] = []
    return {"$schema": DRAFT, "title": "stn-bench study", **schema}


def overrides_schema(description: str = "Overrides of the base, by dotted path.") -> Schema:
    """Return the schema of a table of overrides: every dotted path, with its type and its meaning."""
    return {
        "type": "object",
        "description": description,
        "properties": setting_schemas(),
        "additionalProperties": False,
    }


def setting_schemas() -> dict[str, Schema]:
    """Return the schema of every setting by its dotted path."""
    schema = Config.model_json_schema()
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


def _file_schema(model: type[Ablation | Arm | Claim | Study | Tuning]) -> Schema:
    """Return a model's schema as its file sees it: without the name, which is the file's own."""
    schema = model.model_json_schema()
    properties = {
        name: {key: value for key, value in field.items() if key not in ("title", "$ref")}
        for name, field in schema["properties"].items()
        if name != "name"
    }
    return {
        "type": "object",
        "description": schema["description"],
        "properties": properties,
        "required": [name for name in schema.get("required", ()) if name != "name"],
        "additionalProperties": False,
    }


def _search_schema() -> Schema:
    schema = Range.model_json_schema()
    values = {
        "type": "object",
        "description": schema["description"],
        "properties": schema["properties"],
        "additionalProperties": False,
    }
    return {
        "type": "object",
        "description": "Settings to search, by dotted path.",
        "properties": dict.fromkeys(setting_schemas(), values),
        "additionalProperties": False,
    }


def _factors_schema() -> Schema:
    levels = {path: {"type": "array", "items": one, "minItems": 2} for path, one in setting_schemas().items()}
    return {
        "type": "object",
        "description": "Settings and their values, whose product makes the arms.",
        "properties": levels,
        "additionalProperties": False,
    }
