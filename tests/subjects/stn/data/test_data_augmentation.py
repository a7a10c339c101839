"""Augmentation beside numpy, and what its draws depend on."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from stn_bench.settings import override
from stn_bench.subjects.stn.config import AugmentationConfig, Config
from stn_bench.subjects.stn.data.augmentation import (
    affine_matrix,
    alter_picture,
    augmentation,
    generator,
    recoloured,
    warped,
)

PICTURES = np.random.default_rng(0).integers(0, 256, (6, 20, 20, 3)).astype(np.uint8)
ALL = {
    "rotation": 20.0,
    "scale": 0.2,
    "stretch": 0.1,
    "shear": 0.3,
    "shift": 0.1,
    "contrast": 0.4,
    "brightness": 0.2,
    "permute_colours": True,
    "noise": 0.05,
}
"""A value of every setting that alters pictures."""

STILL = np.zeros(2)


def altering(**settings: object) -> Config:
    return override(Config(), {f"train.augmentation.{name}": value for name, value in settings.items()})


def test_every_setting_is_tried_here() -> None:
    assert set(ALL) == set(AugmentationConfig.model_fields)


def test_by_default_there_is_none() -> None:
    assert augmentation(Config(), 1) is None


@pytest.mark.parametrize("name", ALL)
def test_each_setting_alters_pictures_by_itself(name: str) -> None:
    alter = augmentation(altering(**{name: ALL[name]}), 1)
    assert alter is not None
    altered = alter(PICTURES, np.arange(6), 0)
    assert (altered.shape, altered.dtype) == (PICTURES.shape, np.uint8)
    assert not np.array_equal(altered, PICTURES)


@given(st.permutations(range(6)), st.integers(1, 6), st.integers(0, 2**32 - 1), st.integers(0, 10_000))
def test_a_picture_is_altered_by_seed_epoch_and_index_alone(
    order: list[int], count: int, seed: int, epoch: int
) -> None:
    """Whatever batch it stands in, at whatever place."""
    alter = augmentation(altering(**ALL), seed)
    assert alter is not None
    whole = alter(PICTURES, np.arange(6), epoch)
    chosen = np.array(order[:count])
    np.testing.assert_array_equal(alter(PICTURES[chosen], chosen, epoch), whole[chosen])


@pytest.mark.parametrize("other", [(2, 0, 0), (1, 1, 0), (1, 0, 1)])
def test_another_seed_epoch_or_picture_draws_otherwise(other: tuple[int, int, int]) -> None:
    assert not np.array_equal(generator(1, 0, 0).random(8), generator(*other).random(8))


def test_draws_are_even_and_their_streams_independent() -> None:
    """Over pictures and over epochs: each draw beside the uniform law, and neighbours beside no correlation."""
    drawn = np.array([[generator(3, epoch, index).uniform(-1, 1, 8) for index in range(100)] for epoch in range(20)])
    for one in np.moveaxis(drawn, -1, 0):
        assert stats.kstest(one.ravel(), stats.uniform(-1, 2).cdf).pvalue > 1e-4
    for first, second in ((drawn[:, 1:], drawn[:, :-1]), (drawn[1:], drawn[:-1])):
        assert abs(stats.pearsonr(first.ravel(), second.ravel()).statistic) < 0.04  # 5 standard errors


@pytest.mark.parametrize("left_out", ALL)
def test_an_ingredient_that_is_left_out_leaves_the_others_draws(left_out: str) -> None:
    """So that arms without it are compared on the same alterations."""
    picture, off = PICTURES[0], getattr(AugmentationConfig(), left_out)
    without = AugmentationConfig(**{**ALL, left_out: off})
    drawn, again = generator(1, 0, 0), generator(1, 0, 0)
    expected = _by_hand(picture, without, drawn)
    np.testing.assert_array_equal(alter_picture(picture, without, again), expected)


def _by_hand(picture: np.ndarray, settings: AugmentationConfig, draws: np.random.Generator) -> np.ndarray:
    turn, scale, stretch, shear, right, down, contrast, brightness = draws.uniform(-1, 1, 8)
    order = draws.permutation(3) if settings.permute_colours else draws.permutation(3) * 0 + np.arange(3)
    moved = warped(
        picture,
        affine_matrix(settings, (turn, scale, stretch, shear)),
        20 * settings.shift * np.array([right, down]),
    )
    noise = np.float32(settings.noise) * draws.standard_normal(picture.shape, np.float32) if settings.noise else None
    gain = (1 + settings.contrast) ** contrast
    return recoloured(moved[..., order], gain, settings.brightness * brightness, noise)


def test_a_quarter_turn_is_numpys() -> None:
    matrix = affine_matrix(AugmentationConfig(rotation=90.0), (1.0, 0.0, 0.0, 0.0))
    np.testing.assert_array_equal(warped(PICTURES[0], matrix, STILL), np.rot90(PICTURES[0], -1))


def test_a_shift_of_whole_pixels_repeats_the_border() -> None:
    moved = warped(PICTURES[0], np.eye(2), np.array([3.0, -2.0]))
    padded = np.pad(PICTURES[0], ((0, 2), (3, 0), (0, 0)), mode="edge")
    np.testing.assert_array_equal(moved, padded[2:, :20])


@given(st.floats(-1, 1), st.floats(-1, 1), st.floats(-1, 1), st.floats(-1, 1))
def test_areas_change_by_the_scale_alone(turn: float, scale: float, stretch: float, shear: float) -> None:
    settings = AugmentationConfig(rotation=30.0, scale=0.25, stretch=0.5, shear=0.4)
    matrix = affine_matrix(settings, (turn, scale, stretch, shear))
    np.testing.assert_allclose(np.linalg.det(matrix), 1.25 ** (2 * scale))
    singular = np.linalg.svd(affine_matrix(settings, (turn, scale, stretch, 0.0)), compute_uv=False)
    np.testing.assert_allclose(singular[0] / singular[1], 1.5 ** (2 * abs(stretch)))


def test_scales_are_between_the_factor_and_its_inverse() -> None:
    for drawn, factor in ((1.0, 1.2), (-1.0, 1 / 1.2), (0.0, 1.0)):
        matrix = affine_matrix(AugmentationConfig(scale=0.2), (0.0, drawn, 0.0, 0.0))
        np.testing.assert_allclose(matrix, factor * np.eye(2), atol=1e-12)


def test_contrast_keeps_the_mean_and_brightness_moves_it() -> None:
    picture = np.random.default_rng(1).integers(80, 170, (40, 40, 3)).astype(np.uint8)
    starker = recoloured(picture, 1.5, 0.0, None).astype(float)
    np.testing.assert_allclose(starker, (picture - picture.mean()) * 1.5 + picture.mean(), atol=0.51)
    brighter = recoloured(picture, 1.0, 0.2, None).astype(float)
    np.testing.assert_array_equal(brighter - picture, 51)


def test_values_end_at_black_and_white() -> None:
    assert recoloured(PICTURES[0], 8.0, 0.0, None).min() == 0
    assert set(np.unique(recoloured(PICTURES[0], 1.0, 1.0, None))) == {255}


def test_colours_change_places_in_all_six_ways() -> None:
    picture = np.broadcast_to(np.array([10, 20, 30], np.uint8), (4, 4, 3))
    settings = AugmentationConfig(permute_colours=True)
    found = {tuple(alter_picture(picture, settings, generator(1, 0, index))[0, 0]) for index in range(60)}
    assert found == {(10, 20, 30), (10, 30, 20), (20, 10, 30), (20, 30, 10), (30, 10, 20), (30, 20, 10)}


def test_noise_has_its_standard_deviation() -> None:
    grey = np.full((100, 100, 3), 128, np.uint8)
    noisy = alter_picture(grey, AugmentationConfig(noise=0.1), generator(1, 0, 0)).astype(float)
    np.testing.assert_allclose(noisy.std(), 25.5, rtol=0.02)  # 30,000 values: a standard error of 0.4 %
    np.testing.assert_allclose(noisy.mean(), 128, atol=0.6)
