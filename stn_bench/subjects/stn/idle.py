"""Which settings nothing reads, given the others: an arm that sets them alone would be compared with noise."""

from __future__ import annotations

from stn_bench.subjects.stn.config import Config
from stn_bench.subjects.stn.data.spec import DRAWN

CORRECTION = "data.correction."
TRANSFORMER = "model.transformer."


def idle(settings: Config) -> dict[str, str]:
    """Return path -> why nothing reads the setting, in a clause; a factory of one's own may read all of the model."""
    config, found = settings.resolved(), dict[str, str]()
    data, model = config.data, config.model
    is_corrected, is_drawn = data.correction.kind != "as_drawn", data.source == DRAWN
    if not is_corrected:
        found |= {path: "pictures are not corrected" for path in _others(config, CORRECTION)}
    if not is_corrected and is_drawn and data.shapes == "square":
        found["data.pad"] = "square pictures are not padded"
    if not is_drawn:
        why = "imported pictures are not drawn, and were shuffled by their import"
        found |= dict.fromkeys(("data.seed", "data.fonts"), why)
        found |= {"data.shapes": "imported pictures have their shape"}
        found |= {} if is_corrected else {"data.pad": "imported pictures were padded when they were imported"}
    if model.factory:
        return found
    if model.transformer.kind == "none":
        found |= {path: "there is no transformer" for path in _others(config, TRANSFORMER)}
    if model.norm.kind == "none":
        found |= dict.fromkeys(("model.norm.position", "model.norm.affine"), "nothing is normalised")
    return found


def _others(config: Config, prefix: str) -> list[str]:
    return [path for path in config.flat() if path.startswith(prefix) and path != f"{prefix}kind"]
