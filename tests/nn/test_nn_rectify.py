import numpy as np
import pytest

from stn_bench.config import Config, override
from stn_bench.errors import ConfigError
from stn_bench.nn.build import build_model
from stn_bench.nn.rectify import BATCH, rectify
from stn_bench.nn.transformer import find_transformer

SMALL = override(Config(), {"model.width": 1 / 32, "data.size": 16})


def pictures(count):
    return np.random.default_rng(0).integers(0, 256, (count, 16, 16, 3), dtype=np.uint8)


def move_by(model, right):
    """Set the bias of the localisation net, so that every output pixel looks `right` pixels to its right."""
    matrix = find_transformer(model).localisation.get_layer("localisation_matrix")
    matrix.bias.assign([1, 0, right * 2 / 15, 0, 1, 0])


@pytest.mark.parametrize("input_range", ["[0,1]", "[-1,1]"])
@pytest.mark.parametrize("precision", ["float32", "mixed_float16"])
def test_the_identity_gives_back_every_pixel(input_range, precision):
    model = build_model(override(SMALL, {"model.input_range": input_range, "train.precision": precision}))
    images = pictures(3)
    rectified = rectify(model, images)
    np.testing.assert_array_equal(rectified.pictures, images)
    np.testing.assert_array_equal(rectified.matrices, np.broadcast_to(np.eye(2, 3, dtype=np.float32), (3, 2, 3)))


def test_a_shift_moves_pixels_and_brings_in_black():
    model, images = build_model(override(SMALL, {"model.input_range": "[-1,1]"})), pictures(2)
    move_by(model, right=2)
    rectified = rectify(model, images)
    np.testing.assert_array_equal(rectified.pictures[:, :, :-2], images[:, :, 2:])
    assert (rectified.pictures[:, :, -2:] == 0).all()
    assert rectified.matrices[0, 0, 2] == pytest.approx(2 * 2 / 15)


def test_more_pictures_than_a_batch():
    model, images = build_model(SMALL), pictures(BATCH + 3)
    np.testing.assert_array_equal(rectify(model, images).pictures, images)


def test_a_model_without_transformer_is_refused():
    model = build_model(override(SMALL, {"model.transformer.kind": "none"}))
    with pytest.raises(ConfigError, match="'cnn' has no SpatialTransformer"):
        rectify(model, pictures(1))
