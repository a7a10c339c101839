import keras
import numpy as np
import pytest

from stn_bench.settings import override
from stn_bench.subjects.stn.config import Config
from stn_bench.subjects.stn.data.spec import LOWER_BOUND
from stn_bench.subjects.stn.nn.blocks import (
    ACTIVATIONS,
    DOWNSAMPLINGS,
    NORMALISATIONS,
    POSITIONS,
    SCORES,
    blur_pooled_convolution,
    trunk,
)
from stn_bench.subjects.stn.nn.build import build_model
from stn_bench.subjects.stn.nn.layout import Block, classifier_blocks, scaled_channels
from stn_bench.subjects.stn.nn.sampler import SAMPLERS
from stn_bench.subjects.stn.nn.transformer import find_transformer
from stn_bench.system.errors import ConfigError

SMALL = override(Config(), {"model.width": 1 / 32, "data.size": 20, "data.alphabet": "ABCDE"})
PLAIN = {"model.transformer.kind": "none"}
EVERY = [
    *(("model.downsampling", name) for name in DOWNSAMPLINGS),
    *(("model.norm.kind", name) for name in NORMALISATIONS),
    *(("model.norm.position", name) for name in POSITIONS),
    *(("model.activation", name) for name in ACTIVATIONS),
    *(("model.scores", name) for name in SCORES),
    *(("model.transformer.sampler", name) for name in SAMPLERS),
    *(("model.input_range", name) for name in LOWER_BOUND),
    *(("train.precision", name) for name in ("float32", "mixed_float16", "mixed_bfloat16")),
    ("model.norm.affine", False),
    ("model.dropout", 0.0),
    ("model.transformer.shared_blocks", 2),
    ("model.transformer.shrink", 2),
    ("model.transformer.size", 16),
    ("model.transformer.channels", (64, 32, 32)),
    ("model.channels", (96, 128, 160)),
]
CHOICES = [  # what is the default anyway is one network, with a transformer and without
    *((path, value) for path, value in EVERY if SMALL.flat()[path] != value),
    *(("model.transformer.kind", name) for name in ("affine", "none")),
]


def build(overrides, seed=0):
    keras.utils.set_random_seed(seed)
    return build_model(override(SMALL, overrides))


@pytest.fixture
def pictures():
    return np.random.default_rng(0).integers(0, 256, (6, 20, 20, 3), dtype=np.uint8)


def output_of(model, layer, pictures):
    probe = keras.Model(model.input, model.get_layer(layer).output)
    return keras.ops.convert_to_numpy(keras.ops.cast(probe(pictures, training=False), "float32"))


@pytest.mark.parametrize(("path", "value"), CHOICES)
def test_every_choice_trains_a_step(path, value, pictures):
    # Sampler, fill and precision act inside the transformer; the rest needs only the faster plain network.
    inside = path.startswith(("model.transformer", "train", "model.input_range"))
    model = build(({} if inside else PLAIN) | {path: value})
    shared = path == "model.transformer.shared_blocks"
    first = model.get_layer("shared").get_layer("shared_1_conv") if shared else model.get_layer("classifier_1_conv")
    moving = [first.kernel, model.get_layer("score_map").kernel]
    if transformer := find_transformer(model):
        moving.append((transformer.localisation or model).get_layer("localisation_matrix").kernel)
    before = [np.array(weight) for weight in moving]
    model.compile("adam", "sparse_categorical_crossentropy", run_eagerly=True, jit_compile=False)
    loss = model.train_on_batch(pictures, np.arange(6) % 5)
    probabilities = keras.ops.convert_to_numpy(model(pictures, training=False))
    assert np.isfinite(loss)
    assert probabilities.dtype == np.float32
    assert probabilities.shape == (6, 5)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1.0, atol=1e-5)
    assert all((old != np.array(new)).any() for old, new in zip(before, moving, strict=True))


def test_takes_raw_pictures_and_returns_probabilities():
    model = build({})
    assert model.input.shape == (None, 20, 20, 3)
    assert keras.backend.standardize_dtype(model.input.dtype) == "uint8"
    assert model.output.shape == (None, 5)


@pytest.mark.parametrize(("kind", "name"), [("affine", "stn"), ("none", "cnn")])
def test_the_transformer_is_a_choice(kind, name):
    model = build({"model.transformer.kind": kind})
    assert model.name == name
    assert (find_transformer(model) is not None) == (kind == "affine")


@pytest.mark.parametrize(("input_range", "lower"), LOWER_BOUND.items())
def test_pixels_are_rescaled_to_the_input_range(input_range, lower):
    ends = np.zeros((1, 20, 20, 3), np.uint8)
    ends[0, 10:] = 255
    rescaled = output_of(build({"model.input_range": input_range}), "rescaling", ends)
    np.testing.assert_allclose([rescaled.min(), rescaled.max()], [lower, 1.0], atol=1e-6)


@pytest.mark.parametrize(
    ("overrides", "fill"),
    [
        ({}, 0.0),
        ({"model.input_range": "[-1,1]"}, -1.0),
        ({"model.input_range": "[-1,1]", "model.transformer.fill": 0.0}, 0.0),
        ({"model.transformer.fill": 0.5}, 0.5),
    ],
)
def test_fill_follows_the_range_unless_set(overrides, fill):
    assert find_transformer(build(overrides)).fill == fill


def test_untrained_transformer_changes_nothing(pictures):
    model = build({})
    np.testing.assert_allclose(
        output_of(model, "transformer", pictures), output_of(model, "rescaling", pictures), atol=1e-6
    )


@pytest.mark.parametrize("downsampling", DOWNSAMPLINGS)
@pytest.mark.parametrize(("size", "shrunk"), [(60, 5), (20, 2), (33, 3)])
def test_every_downsampling_shrinks_alike(downsampling, size, shrunk):
    config = override(SMALL, {"model.downsampling": downsampling}).model
    features = trunk(keras.Input((size, size, 3)), config, "t", classifier_blocks(config))
    assert features.shape == (None, shrunk, shrunk, 2)


@pytest.mark.parametrize(("width", "channels"), [(1.0, 20), (0.25, 5), (0.375, 8), (0.001, 1)])
def test_channels_are_rounded_and_never_vanish(width, channels):
    assert scaled_channels(20, width) == channels


@pytest.mark.parametrize(
    ("position", "order"),
    [("before", ["conv", "norm", "activation", "dropout"]), ("after", ["conv", "activation", "norm", "dropout"])],
)
def test_position_of_the_normalisation(position, order):
    names = [layer.name for layer in build(PLAIN | {"model.norm.position": position}).layers]
    first = names.index("classifier_1_conv")
    assert names[first : first + 4] == [f"classifier_1_{part}" for part in order]


def test_relu_scores_are_never_negative(pictures):
    assert output_of(build(PLAIN), "scores", pictures).min() < 0
    assert output_of(build(PLAIN | {"model.scores": "relu"}), "scores", pictures).min() >= 0


def test_same_seed_same_weights_other_seed_others():
    first, again, other = (build(PLAIN, seed).get_weights() for seed in (1, 1, 2))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(first, other, strict=True))


def test_saved_and_loaded_gives_the_same(pictures, tmp_path):
    model = build({})
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded.predict(pictures, verbose=0), model.predict(pictures, verbose=0))


def test_building_leaves_the_global_precision_alone():
    build({"train.precision": "mixed_bfloat16"})
    assert keras.config.dtype_policy().name == "float32"


def own_network(config):
    pictures = keras.Input((config.data.size, config.data.size, 3), dtype="uint8")
    x = keras.layers.Flatten()(keras.layers.Rescaling(1 / 255)(pictures))
    classes = len(config.data.alphabet)
    return keras.Model(pictures, keras.layers.Dense(classes, activation="softmax")(x), name="own")


def float_network(config):
    pictures = keras.Input((config.data.size, config.data.size, 3))
    return keras.Model(pictures, keras.layers.Dense(5)(keras.layers.Flatten()(pictures)))


def two_class_network(config):
    pictures = keras.Input((config.data.size, config.data.size, 3), dtype="uint8")
    return keras.Model(pictures, keras.layers.Dense(2)(keras.layers.Flatten()(pictures)))


def unbuilt_network(config):
    return keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(5)])


def no_network(config):
    return "a network"


NOT_A_FUNCTION = 3


def test_a_network_of_ones_own(pictures):
    model = build({"model.factory": f"{__name__}:own_network"})
    assert model.name == "own"
    assert model.predict(pictures, verbose=0).shape == (6, 5)


@pytest.mark.parametrize(
    ("factory", "complaint"),
    [
        (f"{__name__}:no_network", "expected a keras.Model, got str"),
        (f"{__name__}:float_network", r"one input uint8 \(None, 20, 20, 3\), got float32 \(None, 20, 20, 3\)"),
        (f"{__name__}:two_class_network", r"one output float32 \(None, 5\), got float32 \(None, 2\)"),
        (f"{__name__}:unbuilt_network", "got a model without a symbolic input"),
        (f"{__name__}:NOT_A_FUNCTION", "expected a function, got int"),
        (f"{__name__}:missing", "has no attribute 'missing'"),
        ("no_such_package:function", "No module named 'no_such_package'"),
    ],
)
def test_a_network_that_does_not_fit_is_refused(factory, complaint):
    with pytest.raises(ConfigError, match=complaint):
        build({"model.factory": factory})


@pytest.mark.parametrize("factor", [2, 3])
def test_blur_pooling_is_a_triangle_filter_behind_the_activation(factor):
    # Zhang (2019), figure 4: 1 2 1 for a factor of 2; by correlation, away from the border.
    triangle = np.convolve(np.ones(factor), np.ones(factor)) / factor**2
    picture = keras.Input((24, 24, 3))
    x = blur_pooled_convolution(picture, Block(4, 3, factor), "b", lambda x: keras.layers.ReLU(name="relu")(x))
    model = keras.Model(picture, x)
    probe = keras.Model(picture, [model.get_layer("relu").output, x])
    activations, blurred = (np.asarray(y) for y in probe(np.random.default_rng(1).random((1, 24, 24, 3))))
    taps = np.outer(triangle, triangle)
    window, reach = 2 * factor - 1, 24 // factor - 2
    ahead = (factor - 1) // 2  # "same" padding puts the smaller half in front
    for row in range(1, reach):
        for column in range(1, reach):
            top, left = row * factor - ahead, column * factor - ahead
            patch = activations[0, top : top + window, left : left + window]
            expected = np.einsum("hwc,hw->c", patch, taps)
            np.testing.assert_allclose(blurred[0, row, column], expected, rtol=1e-5)
    assert blurred.shape == (1, 24 // factor, 24 // factor, 4)


@pytest.mark.parametrize("shared", [1, 2, 3])
def test_shared_blocks_are_one_set_of_weights_seen_twice(shared, pictures, tmp_path):
    own, common = build({}), build({"model.transformer.shared_blocks": shared})
    saved = sum(
        int(np.prod(weight.shape)) for layer in _blocks(own, "localisation", shared) for weight in layer.weights
    )
    assert common.count_params() == own.count_params() - saved
    transformer = find_transformer(common)
    np.testing.assert_allclose(  # untrained, the matrix is the identity
        output_of(common, "transformer", pictures), output_of(common, "rescaling", pictures), atol=1e-6
    )
    assert transformer.localisation is None
    common.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded.predict(pictures, verbose=0), common.predict(pictures, verbose=0))
    assert loaded.count_params() == common.count_params(), "the weights are still shared"


def _blocks(model, name, count):
    layers = find_transformer(model).localisation.layers
    return [layer for layer in layers if any(layer.name.startswith(f"{name}_{n + 1}_") for n in range(count))]


def test_a_small_localisation_net_sees_half_the_picture(pictures):
    model = build({"model.transformer.shrink": 2})
    localisation = find_transformer(model).localisation
    assert localisation.get_layer("localisation_1_conv").input.shape[1:3] == (10, 10)
    assert find_transformer(model).output.shape[1:3] == (20, 20)


@pytest.mark.parametrize(("name", "value"), [("shrink", 2), ("size", 16), ("channels", (64, 32, 32))])
def test_shared_blocks_need_nets_that_are_alike(name, value):
    with pytest.raises(ConfigError, match=rf"needs nets that are alike and see the same picture.*transformer.{name}"):
        build({"model.transformer.shared_blocks": 1, f"model.transformer.{name}": value})


def test_the_classifier_is_shown_pictures_of_the_transformer_s_size(pictures):
    smaller = build({"model.transformer.size": 16})
    assert find_transformer(smaller).output.shape[1:3] == (16, 16)
    assert smaller.get_layer("classifier_1_conv").output.shape[1:3] == (6, 6)
    seen = output_of(smaller, "transformer", pictures)  # untrained: the whole picture, from corner to corner
    whole = output_of(smaller, "rescaling", pictures)
    np.testing.assert_allclose(
        seen[:, [0, 0, -1, -1], [0, -1, 0, -1]], whole[:, [0, 0, -1, -1], [0, -1, 0, -1]], atol=1e-5
    )


def test_each_net_has_the_channels_of_its_setting():
    model = build({"model.channels": (96, 128, 160), "model.transformer.channels": (64, 32, 32)})
    own = [model.get_layer(f"classifier_{number}_conv").filters for number in (1, 2, 3)]
    localisation = [
        find_transformer(model).localisation.get_layer(f"localisation_{number}_conv").filters for number in (1, 2, 3)
    ]
    assert own == [3, 4, 5]  # at width 1/32
    assert localisation == [2, 1, 1]
