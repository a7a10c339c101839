import cv2
import keras
import numpy as np
import pytest
from keras import ops

from stn_bench.subjects.stn.nn.sampler import SAMPLERS, article_sampler, exact_sampler

IDENTITY = np.float32([[1, 0, 0], [0, 1, 0]])
SIZES = [(16, 16), (60, 60), (9, 14), (31, 8), (1, 5)]


def random_pictures(shape, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, shape).astype(np.float32)


def random_matrices(count, spread, seed=0):
    noise = np.random.default_rng(seed).normal(0, spread, (count, 2, 3))
    return (IDENTITY + noise).astype(np.float32)


def sample(name, images, matrices, output_size=None, fill=0.0):
    size = output_size or images.shape[1:3]
    return ops.convert_to_numpy(SAMPLERS[name](ops.convert_to_tensor(images), matrices, size, fill))


def normalised(count):
    return np.zeros(1) if count == 1 else np.linspace(-1, 1, count)


def places(matrix, output_size):
    """Yield each output pixel with the source coordinates (x, y) in [-1, 1] that the matrix gives it."""
    for i, y in enumerate(normalised(output_size[0])):
        for j, x in enumerate(normalised(output_size[1])):
            yield (i, j), np.asarray(matrix, np.float64) @ (x, y, 1.0)


def exact_oracle(images, matrices, output_size, fill):
    """Sum every pixel of an endless plane of `fill` weighted with the two tent functions of equation 5."""
    batch, height, width, channels = images.shape
    result = np.zeros((batch, *output_size, channels))
    for n in range(batch):
        for (i, j), (x, y) in places(matrices[n], output_size):
            column, row = (x + 1) / 2 * (width - 1), (y + 1) / 2 * (height - 1)
            for r in (int(np.floor(row)), int(np.floor(row)) + 1):
                for c in (int(np.floor(column)), int(np.floor(column)) + 1):
                    inside = 0 <= r < height and 0 <= c < width
                    weight = max(0, 1 - abs(row - r)) * max(0, 1 - abs(column - c))
                    result[n, i, j] += weight * (images[n, r, c] if inside else fill)
    return result


def article_oracle(images, matrices, output_size):
    """Follow the article's steps one by one: scale by the size, truncate, clip, areas of the clipped neighbours."""
    batch, height, width, channels = images.shape
    result = np.zeros((batch, *output_size, channels))
    for n in range(batch):
        for (i, j), (x, y) in places(matrices[n], output_size):
            x, y = 0.5 * (x + 1) * width, 0.5 * (y + 1) * height
            x0, x1 = (min(max(int(x) + step, 0), width - 1) for step in (0, 1))
            y0, y1 = (min(max(int(y) + step, 0), height - 1) for step in (0, 1))
            result[n, i, j] = (
                (x1 - x) * (y1 - y) * images[n, y0, x0]
                + (x1 - x) * (y - y0) * images[n, y1, x0]
                + (x - x0) * (y1 - y) * images[n, y0, x1]
                + (x - x0) * (y - y0) * images[n, y1, x1]
            )
    return result


def gradient(function, value):
    """Return the gradient of a scalar function of `keras.ops`, on whichever backend runs."""
    value = ops.convert_to_tensor(value)
    if keras.backend.backend() == "jax":
        import jax

        return np.asarray(jax.grad(function)(value))
    import tensorflow as tf

    with tf.GradientTape() as tape:
        tape.watch(value)
        result = function(value)
    return ops.convert_to_numpy(tf.convert_to_tensor(tape.gradient(result, value)))


def finite_differences(function, value, step=1e-6):
    value = np.asarray(value, np.float64)
    slopes = np.zeros_like(value)
    for place in np.ndindex(value.shape):
        ahead, behind = value.copy(), value.copy()
        ahead[place] += step
        behind[place] -= step
        slopes[place] = (function(ahead) - function(behind)) / (2 * step)
    return slopes


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("channels", [1, 3])
def test_identity_returns_the_input(size, channels):
    images = random_pictures((3, *size, channels))
    result = sample("exact", images, np.stack([IDENTITY] * 3), fill=-1.0)
    assert np.abs(result - images).max() <= 1e-6


@pytest.mark.parametrize("fill", [0.0, -1.0, 0.37])
@pytest.mark.parametrize("spread", [0.1, 0.7, 30.0])
@pytest.mark.parametrize("output_size", [(9, 7), (5, 12), (1, 1)])
def test_exact_sampler_agrees_with_the_definition(fill, spread, output_size):
    images, matrices = random_pictures((4, 9, 7, 2)), random_matrices(4, spread)
    expected = exact_oracle(images, matrices, output_size, fill)
    # float32 places a pixel 30 pictures away to about 1e-5 of a pixel.
    np.testing.assert_allclose(
        sample("exact", images, matrices, output_size, fill), expected, atol=2e-5 * (1 + spread)
    )


@pytest.mark.parametrize("spread", [0.1, 0.7, 30.0])
@pytest.mark.parametrize("output_size", [(9, 7), (5, 12)])
def test_article_sampler_agrees_with_the_article(spread, output_size):
    images, matrices = random_pictures((4, 9, 7, 2)), random_matrices(4, spread)
    expected = article_oracle(images, matrices, output_size)
    np.testing.assert_allclose(sample("article", images, matrices, output_size), expected, atol=2e-5 * (1 + spread))


@pytest.mark.parametrize("name", SAMPLERS)
def test_six_numbers_are_a_matrix_row_by_row(name):
    images, matrices = random_pictures((2, 8, 8, 3)), random_matrices(2, 0.3)
    np.testing.assert_array_equal(sample(name, images, matrices), sample(name, images, matrices.reshape(2, 6)))


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_picture_far_outside_is_all_fill(name):
    far = np.float32([[[1, 0, 9], [0, 1, 0]], [[1, 0, 0], [0, 1, -1e30]]])
    np.testing.assert_array_equal(sample(name, random_pictures((2, 8, 8, 3)), far, fill=0.25), 0.25)


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_diverged_matrix_gives_nan_and_no_error(name):
    matrices = np.stack([IDENTITY, np.full((2, 3), np.nan, np.float32)])
    result = sample(name, random_pictures((2, 8, 8, 3)), matrices)
    assert np.isfinite(result[0]).all()
    assert np.isnan(result[1]).all()


def test_article_identity_loses_the_last_row_and_column():
    images = np.ones((1, 60, 60, 3), np.float32)
    result = sample("article", images, IDENTITY[None])
    assert (result[0, -1] == 0).all()
    assert (result[0, :, -1] == 0).all()
    np.testing.assert_allclose(result[0, :-1, :-1], 1.0, atol=1e-5)


def test_article_identity_enlarges():
    ramp = np.broadcast_to(np.arange(60, dtype=np.float32)[None, None, :, None], (1, 60, 60, 1))
    # Column j is read at j * 60/59, so that a ramp comes out steeper by that factor.
    row = sample("article", ramp, IDENTITY[None])[0, 30, :-1, 0]
    np.testing.assert_allclose(row, np.arange(59) * 60 / 59, atol=1e-4)


def test_article_sampler_extrapolates_left_of_the_picture():
    ramp = np.broadcast_to(np.arange(1, 11, dtype=np.float32)[None, None, :, None], (1, 10, 10, 1))
    half_a_pixel_left = np.float32([[[1, 0, -0.1], [0, 1, 0]]])
    # At -0.5 truncation gives neighbours 0 and 1, so the ramp 1, 2 is continued to 0.5; the exact sampler blends.
    assert sample("article", ramp, half_a_pixel_left)[0, 5, 0, 0] == pytest.approx(0.5, abs=1e-5)


def pixel_matrix(matrix, height, width):
    """Return the matrix in OpenCV's pixel coordinates, for input and output of the same size."""
    to_unit = np.array([[2 / (width - 1), 0, -1], [0, 2 / (height - 1), -1], [0, 0, 1]])
    return (np.linalg.inv(to_unit) @ np.vstack([matrix, [0, 0, 1]]) @ to_unit)[:2]


def warp(picture, matrix, fill):
    height, width = picture.shape[:2]
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    inverse = pixel_matrix(matrix, height, width)
    border = {"borderMode": cv2.BORDER_CONSTANT, "borderValue": (fill,) * 3}
    return cv2.warpAffine(picture, inverse, (width, height), flags=flags, **border)


@pytest.mark.parametrize("fill", [0.0, -1.0])
@pytest.mark.parametrize(("right", "down"), [(3, -2), (0.5, 0), (-7 / 32, 40.25)])
def test_shifts_agree_with_opencv(right, down, fill):
    # OpenCV rounds coordinates to 1/32 pixel: these shifts have nothing to round.
    picture = random_pictures((24, 30, 3))
    matrix = np.float32([[1, 0, right * 2 / 29], [0, 1, down * 2 / 23]])
    result = sample("exact", picture[None], matrix[None], fill=fill)[0]
    np.testing.assert_allclose(result, warp(picture, matrix, fill), atol=2e-5)


@pytest.mark.parametrize("seed", range(4))
def test_affine_maps_agree_with_opencv(seed):
    # A smooth picture, so that OpenCV's rounding by up to 1/64 pixel in each direction moves no value far.
    rows, columns = np.mgrid[0:24, 0:30].astype(np.float32)
    picture = np.stack([np.sin(rows / 5), np.cos(columns / 7), np.sin((rows + columns) / 9)], axis=-1) + 1.5
    matrix = random_matrices(1, 0.2, seed)[0]
    result, expected = sample("exact", picture[None], matrix[None])[0], warp(picture, matrix, 0.0)
    inside = exact_oracle(np.ones((1, 24, 30, 1)), matrix[None], (24, 30), 0.0)[0, ..., 0] > 0.999
    assert inside.sum() > 100
    np.testing.assert_allclose(result[inside], expected[inside], atol=2 / 64 * 0.2 + 1e-4)


@pytest.mark.parametrize("output_size", [(8, 6), (5, 9)])
def test_gradient_towards_the_matrix(output_size):
    images, matrices = random_pictures((3, 8, 6, 2)), random_matrices(3, 0.4)
    weights = random_pictures((3, *output_size, 2), seed=1)
    slopes = gradient(lambda m: ops.sum(exact_sampler(images, m, output_size, 0.5) * weights), matrices)
    expected = finite_differences(lambda m: np.sum(exact_oracle(images, m, output_size, 0.5) * weights), matrices)
    np.testing.assert_allclose(slopes, expected, atol=1e-3)


def test_gradient_towards_the_picture():
    images, matrices = random_pictures((2, 6, 5, 2)), random_matrices(2, 0.4)
    weights = random_pictures((2, 6, 5, 2), seed=1)
    slopes = gradient(lambda x: ops.sum(exact_sampler(x, matrices, (6, 5), 0.5) * weights), images)
    expected = finite_differences(lambda x: np.sum(exact_oracle(x, matrices, (6, 5), 0.5) * weights), images)
    np.testing.assert_allclose(slopes, expected, atol=1e-4)


def test_gradient_of_the_article_sampler():
    images, matrices = random_pictures((2, 8, 6, 2)), random_matrices(2, 0.2)
    weights = random_pictures((2, 8, 6, 2), seed=1)
    slopes = gradient(lambda m: ops.sum(article_sampler(images, m, (8, 6), 0.0) * weights), matrices)
    expected = finite_differences(lambda m: np.sum(article_oracle(images, m, (8, 6)) * weights), matrices)
    np.testing.assert_allclose(slopes, expected, atol=1e-3)


def test_gradient_vanishes_outside():
    matrices = np.float32([[[1, 0, 9], [0, 1, 0]]])
    slopes = gradient(lambda m: ops.sum(exact_sampler(random_pictures((1, 8, 8, 3)), m, (8, 8), 0.5)), matrices)
    assert (slopes == 0).all()
