"""FLOPs and parameters on paper against the built network's, over all choices; and the width that matches them."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stn_bench.settings import override
from stn_bench.subjects.keras_training.kept import cost_of
from stn_bench.subjects.stn.config import Config
from stn_bench.subjects.stn.nn.build import build_model
from stn_bench.subjects.stn.nn.compiled import transformer_flops
from stn_bench.subjects.stn.nn.layout import flops, matching_width, parameters
from stn_bench.system.errors import ConfigError

CHOICES = st.fixed_dictionaries(
    {
        "data.size": st.integers(16, 40),
        "data.alphabet": st.sampled_from(["AB", "ABCDEFG"]),
        "model.width": st.sampled_from([1 / 64, 0.05, 0.1]),
        "model.downsampling": st.sampled_from(["stride", "max_pool", "average_pool", "blur_pool"]),
        "model.norm.kind": st.sampled_from(["batch_renorm", "batch", "none"]),
        "model.norm.position": st.sampled_from(["before", "after"]),
        "model.norm.affine": st.booleans(),
        "model.scores": st.sampled_from(["linear", "relu"]),
        "model.transformer.kind": st.sampled_from(["affine", "none"]),
        "model.transformer.shrink": st.integers(1, 3),
        "model.transformer.size": st.none() | st.integers(8, 40),
        "model.transformer.channels": st.none() | st.tuples(*[st.integers(1, 60)] * 3),
        "model.channels": st.tuples(*[st.integers(1, 200)] * 3),
    }
)


@given(CHOICES)
@settings(max_examples=40, deadline=None)
def test_the_closed_form_counts_what_the_built_network_costs(choices: dict[str, object]) -> None:
    config = override(Config(), choices)
    model = build_model(config)
    counted = cost_of(model, transformer_flops)
    assert counted.uncounted == ()
    assert flops(config) == counted.flops
    assert parameters(config) == counted.parameters


@pytest.mark.parametrize("shared", [1, 2, 3])
def test_shared_blocks_cost_what_blocks_of_ones_own_cost(shared: int) -> None:
    config = override(Config(), {"data.size": 20, "model.width": 0.05, "model.transformer.shared_blocks": shared})
    assert flops(config) == cost_of(build_model(config), transformer_flops).flops
    assert flops(config) == flops(override(config, {"model.transformer.shared_blocks": 0}))


@pytest.mark.parametrize("shared", [1, 2, 3])
@pytest.mark.parametrize("kind", ["batch_renorm", "none"])
def test_shared_blocks_hold_their_parameters_once(shared: int, kind: str) -> None:
    choices = {"model.width": 0.05, "model.transformer.shared_blocks": shared, "model.norm.kind": kind}
    config = override(Config(), {"data.size": 20, **choices})
    assert parameters(config) == cost_of(build_model(config), transformer_flops).parameters


@given(st.floats(0.2, 1.0))
@settings(max_examples=30, deadline=None)
def test_a_matching_width_comes_within_three_per_cent(width: float) -> None:
    stn = override(Config(), {"model.width": width})
    plain = override(stn, {"model.transformer.kind": "none"})
    found = matching_width(plain, flops(stn))
    assert flops(override(plain, {"model.width": found})) == pytest.approx(flops(stn), rel=0.03)
    assert found > width


def test_a_network_matches_itself_at_its_own_width() -> None:
    config = override(Config(), {"model.width": 0.25})
    found = override(config, {"model.width": matching_width(config, flops(config))})
    assert flops(found) == pytest.approx(flops(config), rel=0.005)


def test_a_target_out_of_reach_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"no `model\.width` brings it within 3%"):
        matching_width(Config(), 10)


def test_a_network_of_ones_own_has_no_closed_form() -> None:
    with pytest.raises(ConfigError, match="FLOPs are not known before it is built"):
        flops(override(Config(), {"model.factory": "mine:network"}))
    with pytest.raises(ConfigError, match="weights are not known before it is built"):
        parameters(override(Config(), {"model.factory": "mine:network"}))
