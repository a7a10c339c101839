import cv2
import keras
import numpy as np
import pytest

from stn_bench.settings import override
from stn_bench.subjects.stn.config import Config
from stn_bench.subjects.stn.nn.build import build_model
from stn_bench.subjects.stn.nn.rectify import BATCH, find_ink, find_letters, measure_letters, rectify, sampling_frames
from stn_bench.subjects.stn.nn.sampler import SAMPLERS
from stn_bench.subjects.stn.nn.transformer import find_transformer
from stn_bench.system.errors import ConfigError

SMALL = override(Config(), {"model.width": 1 / 32, "data.size": 16})


def pictures(count):
    return np.random.default_rng(0).integers(0, 256, (count, 16, 16, 3), dtype=np.uint8)


def set_matrix(model, entries):
    """Set the bias of the localisation net, so that every picture gets this matrix."""
    find_transformer(model).localisation.get_layer("localisation_matrix").bias.assign(entries)


def move_by(model, right):
    """Let every output pixel look `right` pixels to its right."""
    set_matrix(model, [1, 0, right * 2 / 15, 0, 1, 0])


def turned(degrees, scale=1.0):
    """Return the matrix of a rotation, `(1, 2, 3)`."""
    angle = np.deg2rad(degrees)
    return scale * np.array([[[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0]]])


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


# The sampling frame -----------------------------------------------------------------------------------------------

SQUARE = [[0, 0], [15, 0], [15, 15], [0, 15]]


@pytest.mark.parametrize(
    ("matrix", "corners"),
    [
        ([[1, 0, 0], [0, 1, 0]], SQUARE),
        ([[0.5, 0, 0], [0, 0.5, 0]], [[3.75, 3.75], [11.25, 3.75], [11.25, 11.25], [3.75, 11.25]]),
        ([[1, 0, 0.2], [0, 1, -0.4]], [[1.5, -3], [16.5, -3], [16.5, 12], [1.5, 12]]),
        ([[0, -1, 0], [1, 0, 0]], [[15, 0], [15, 15], [0, 15], [0, 0]]),  # a quarter turn
        ([[1, 0.2, 0], [0, 1, 0]], [[-1.5, 0], [13.5, 0], [16.5, 15], [1.5, 15]]),
    ],
    ids=["identity", "scale", "shift", "turn", "shear"],
)
def test_the_frame_lies_where_it_was_worked_out_by_hand(matrix, corners):
    np.testing.assert_allclose(sampling_frames(np.array([matrix]), "exact", (16, 16))[0], corners, atol=1e-12)


def test_the_frame_of_a_wide_picture_has_its_own_scale_for_each_axis():
    frame = sampling_frames(np.array([[[0.5, 0, 0], [0, 1, 0]]]), "exact", (11, 21))[0]
    np.testing.assert_allclose(frame, [[5, 0], [15, 0], [15, 10], [5, 10]])


def test_the_articles_sampler_spans_one_pixel_more():
    np.testing.assert_allclose(
        sampling_frames(np.eye(2, 3)[None], "article", (16, 16))[0], [[0, 0], [16, 0], [16, 16], [0, 16]]
    )


def test_opencv_puts_the_corners_where_the_frame_has_them():
    matrix = turned(25, 0.7) + np.array([[0, 0, 0.1], [0, 0, -0.2]])
    to_pixels = np.array([[7.5, 0, 7.5], [0, 7.5, 7.5], [0, 0, 1]])
    in_pixels = to_pixels @ np.vstack([matrix[0], [0, 0, 1]]) @ np.linalg.inv(to_pixels)
    corners = cv2.perspectiveTransform(np.array([SQUARE], np.float64), in_pixels)
    np.testing.assert_allclose(sampling_frames(matrix, "exact", (16, 16)), corners)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_each_sampler_reads_its_corners_at_the_corners_of_the_frame(sampler):
    """Pictures whose pixels hold their own column and row tell where they were read."""
    rows, columns = np.mgrid[:20, :30].astype(np.float32)
    matrix = turned(20, 0.4) + np.array([[0, 0, 0.15], [0, 0, -0.1]])
    read = SAMPLERS[sampler](np.stack([columns, rows], -1)[None], matrix.astype(np.float32), (9, 7), 0.0)
    read = keras.ops.convert_to_numpy(read)[0]
    corners = [read[0, 0], read[0, -1], read[-1, -1], read[-1, 0]]
    np.testing.assert_allclose(sampling_frames(matrix, sampler, (20, 30))[0], corners, atol=1e-4)


def test_rectified_pictures_come_with_their_frames():
    model = build_model(SMALL)
    set_matrix(model, [0.5, 0, 0.2, 0, 0.5, 0])
    frames = rectify(model, pictures(2)).frames
    np.testing.assert_allclose(frames, [[[5.25, 3.75], [12.75, 3.75], [12.75, 11.25], [5.25, 11.25]]] * 2, atol=1e-5)


# What happened to the letters -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("entries", "magnification"),
    [
        ([1, 0, 0, 0, 1, 0], 1),
        ([0.5, 0, 0.3, 0, 0.5, 0], 2),
        ([2, 0, 0, 0, 2, 0], 0.5),
        ([0.5, 0, 0, 0, 1, 0], 2**0.5),
        ([0, -1, 0, 1, 0, 0], 1),
        ([-1, 0, 0, 0, 1, 0], 1),
        ([1, 0.7, 0, 0, 1, 0], 1),
    ],
    ids=["identity", "half", "double", "one axis", "turn", "mirror", "shear"],
)
def test_magnification_of_known_matrices(entries, magnification):
    model = build_model(SMALL)
    set_matrix(model, entries)
    np.testing.assert_allclose(measure_letters(model, pictures(2)).magnification, [magnification] * 2, rtol=1e-6)


def test_the_articles_identity_makes_letters_a_sixteenth_smaller():
    model = build_model(override(SMALL, {"model.transformer.sampler": "article"}))
    np.testing.assert_allclose(measure_letters(model, pictures(1)).magnification, [15 / 16], rtol=1e-6)


def spot(column, row, ground=250, ink=40):
    """Return a picture with a dark square of 3 x 3 pixels around a place."""
    picture = np.full((1, 16, 16, 3), ground, np.uint8)
    picture[:, row - 1 : row + 2, column - 1 : column + 2] = ink
    return picture


def test_distances_from_the_middle_before_and_after():
    model = build_model(SMALL)
    set_matrix(model, [1, 0, 4 * 2 / 15, 0, 1, 0])  # what lay at column 12 comes to column 8
    measure = measure_letters(model, spot(12, 4))
    np.testing.assert_allclose(measure.offset_before, [np.hypot(4.5, 3.5)], rtol=1e-6)
    np.testing.assert_allclose(measure.offset_after, [np.hypot(0.5, 3.5)], rtol=1e-6)
    assert measure.means()["letter.centring"] == pytest.approx(np.hypot(4.5, 3.5) - np.hypot(0.5, 3.5))


def test_dots_and_lines_beside_the_letter_do_not_count():
    picture = spot(12, 4)
    picture[:, 12, :] = 40  # a line through the picture, a pixel wide
    picture[:, 0, 0] = picture[:, 15, 3] = 40
    np.testing.assert_array_equal(find_letters(picture), find_letters(spot(12, 4)))
    assert find_ink(picture).sum() > find_letters(picture).sum()


def test_ink_that_leaves_the_picture_is_no_distance():
    model = build_model(SMALL)
    set_matrix(model, [1, 0, 3, 0, 1, 0])
    measure = measure_letters(model, spot(12, 4))
    assert np.isnan(measure.offset_after).all()
    assert set(measure.means()) == {"letter.magnification"}


def test_ink_is_what_is_darker_than_the_ground_by_more_than_the_contrast():
    ink = find_ink(spot(5, 9, ground=200, ink=120))[0, :, :, 0]
    np.testing.assert_array_equal(np.unique(ink), [0, 50])  # 200 - 30 - 120
    np.testing.assert_array_equal(np.argwhere(ink).min(axis=0), [8, 4])
    np.testing.assert_array_equal(np.argwhere(ink).max(axis=0), [10, 6])


@pytest.mark.parametrize("pad", [0, 128, 255])
@pytest.mark.parametrize("axis", [1, 2])
def test_what_a_letterbox_put_around_a_picture_is_no_ink(pad, axis):
    picture, bare = spot(8, 8), spot(8, 8)
    for band in (slice(0, 5), slice(11, 16)):  # most of the picture: its median is the pad
        picture[(slice(None),) * axis + (band,)] = pad
    np.testing.assert_array_equal(find_ink(picture) > 0, find_ink(bare) > 0)


@pytest.mark.parametrize("value", [0, 128, 255])
def test_a_picture_of_one_colour_has_no_ink(value):
    assert not find_ink(np.full((2, 16, 16, 3), value, np.uint8)).any()
