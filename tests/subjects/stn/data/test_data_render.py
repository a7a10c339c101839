from __future__ import annotations

import secrets
from dataclasses import replace

import captcha.image
import numpy as np
import pytest

from stn_bench.settings import override
from stn_bench.subjects.stn.config import Config
from stn_bench.subjects.stn.data.render import SeededSecrets, font_digests, render_picture, render_range
from stn_bench.subjects.stn.data.spec import DatasetSpec
from stn_bench.system.errors import DataError

SPEC = DatasetSpec.of(Config())
VARIED = replace(SPEC, shapes="varied", pad_byte=0)


@pytest.mark.parametrize("spec", [SPEC, VARIED, replace(SPEC, size=16), replace(SPEC, size=96)])
def test_picture_is_rgb_of_the_size_asked_for(spec: DatasetSpec) -> None:
    picture, label = render_picture(spec, 3)
    assert picture.shape == (spec.size, spec.size, 3)
    assert picture.dtype == np.uint8
    assert 0 <= label < 26


@pytest.mark.parametrize("spec", [SPEC, VARIED])
def test_picture_depends_on_its_index_alone(spec: DatasetSpec) -> None:
    images, labels = render_range(spec, range(6))
    for index in (5, 0, 3):  # in another order, one at a time
        picture, label = render_picture(replace(spec, count=99_999), index)
        np.testing.assert_array_equal(picture, images[index])
        assert label == labels[index]


def test_two_seeds_differ_in_pictures_and_labels() -> None:
    images, labels = render_range(SPEC, range(20))
    other_images, other_labels = render_range(replace(SPEC, seed=1), range(20))
    assert all((one != other).any() for one, other in zip(images, other_images, strict=True))
    assert (labels != other_labels).any()


def test_labels_are_fixed_for_good() -> None:
    """Worked out once: they depend on numpy's PCG64 words, which never change, and on no library that draws."""
    _, labels = render_range(SPEC, range(8))
    assert "".join(SPEC.alphabet[label] for label in labels) == "QXCXWJKB"


def test_labels_are_uniform_over_the_alphabet() -> None:
    draws = [SeededSecrets(0, index).randbelow(26) for index in range(26_000)]
    counts = np.bincount(draws, minlength=26)
    chi_square = ((counts - 1000) ** 2 / 1000).sum()
    assert chi_square < 52.6  # 99.9 % of a chi-square with 25 degrees of freedom


def test_seeded_secrets_stay_in_their_ranges() -> None:
    source = SeededSecrets(7, 0)
    assert {source.randbelow(3) for _ in range(200)} == {0, 1, 2}
    assert {source.choice("ab") for _ in range(200)} == {"a", "b"}
    assert max(source.randbits(32) for _ in range(200)) < 2**32


def test_secrets_module_is_put_back_even_after_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    render_picture(SPEC, 0)
    assert captcha.image.secrets is secrets

    def fail(*_: object) -> None:
        raise RuntimeError("no dots")

    monkeypatch.setattr(captcha.image.ImageCaptcha, "create_noise_dots", fail)
    with pytest.raises(RuntimeError, match="no dots"):
        render_picture(SPEC, 0)
    assert captcha.image.secrets is secrets


def test_square_pictures_are_captchas_own() -> None:
    captcha.image.secrets = SeededSecrets(SPEC.seed, 4)
    try:
        letter = SPEC.alphabet[captcha.image.secrets.randbelow(26)]
        expected = captcha.image.ImageCaptcha(60, 60).generate_image(letter)
    finally:
        captcha.image.secrets = secrets
    np.testing.assert_array_equal(render_picture(SPEC, 4)[0], np.asarray(expected))


def test_varied_shapes_reach_from_tall_to_wide() -> None:
    images, _ = render_range(replace(VARIED, pad_byte=1), range(80))
    is_pad = (images == 1).all(-1)
    heights = 60 - is_pad.all(2).sum(1)  # rows and columns that are not border
    widths = 60 - is_pad.all(1).sum(1)
    octaves = np.log2(widths / heights)
    assert np.abs(octaves).max() <= 1.03
    assert octaves.min() < -0.8
    assert octaves.max() > 0.8
    assert abs(octaves.mean()) < 0.25


def test_pad_value_changes_the_border_alone() -> None:
    black, grey = (render_range(replace(VARIED, pad_byte=byte), range(10))[0] for byte in (0, 128))
    changed = black != grey
    assert changed.any()
    assert (black[changed] == 0).all()
    assert (grey[changed] == 128).all()


@pytest.mark.parametrize(
    ("overrides", "byte"),
    [
        ({}, None),
        ({"data.pad": 0.5}, None),
        ({"data.shapes": "varied"}, 0),
        ({"data.shapes": "varied", "data.pad": 0.5}, 128),
        ({"data.shapes": "varied", "model.input_range": "[-1,1]"}, 0),
        ({"data.shapes": "varied", "model.input_range": "[-1,1]", "data.pad": 0.0}, 128),
        ({"data.shapes": "varied", "model.input_range": "[-1,1]", "data.pad": 1.0}, 255),
    ],
)
def test_pad_byte_follows_the_input_range(overrides: dict[str, object], byte: int | None) -> None:
    assert DatasetSpec.of(override(Config(), overrides)).pad_byte == byte


def test_missing_font_is_named() -> None:
    with pytest.raises(DataError, match=r"data.fonts.*nowhere/a\.ttf does not exist"):
        font_digests(["nowhere/a.ttf"])


def test_file_that_is_no_font_is_named() -> None:
    with pytest.raises(DataError, match=r"test_data_render\.py is no TrueType font"):
        font_digests([__file__])


def test_named_font_draws_the_same_as_captchas_own() -> None:
    named = replace(SPEC, fonts=tuple(captcha.image.DEFAULT_FONTS))
    np.testing.assert_array_equal(render_picture(named, 1)[0], render_picture(SPEC, 1)[0])
    assert font_digests(named.fonts) == font_digests(())
