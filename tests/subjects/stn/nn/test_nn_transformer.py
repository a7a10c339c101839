import keras
import numpy as np
import pytest

from stn_bench.subjects.stn.nn.blocks import IDENTITY
from stn_bench.subjects.stn.nn.sampler import SAMPLERS
from stn_bench.subjects.stn.nn.transformer import SpatialTransformer, find_transformer
from stn_bench.system.errors import ConfigError


def localisation(kernel="zeros", bias=IDENTITY):
    return keras.Sequential(
        [
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(
                6, kernel_initializer=kernel, bias_initializer=keras.initializers.Constant(bias), dtype="float32"
            ),
        ]
    )


def small_model(transformer):
    pictures = keras.Input((12, 10, 3))
    x = keras.layers.Flatten()(transformer(pictures))
    return keras.Model(pictures, keras.layers.Dense(2, activation="softmax", dtype="float32")(x))


@pytest.fixture
def pictures():
    return np.random.default_rng(0).uniform(0, 1, (4, 12, 10, 3)).astype(np.float32)


@pytest.fixture(autouse=True)
def _seed():
    keras.utils.set_random_seed(1)


def test_starts_as_the_identity(pictures):
    result = keras.ops.convert_to_numpy(SpatialTransformer(localisation())(pictures))
    assert np.abs(result - pictures).max() <= 1e-6


def test_matrices_are_the_localisation_row_by_row(pictures):
    transformer = SpatialTransformer(localisation(bias=[1, 2, 3, 4, 5, 6]))
    matrices = keras.ops.convert_to_numpy(transformer.matrices(pictures))
    np.testing.assert_array_equal(matrices, np.broadcast_to(np.float32([[1, 2, 3], [4, 5, 6]]), (4, 2, 3)))


def test_output_size_may_differ(pictures):
    transformer = SpatialTransformer(localisation(), output_size=(5, 7))
    assert transformer(pictures).shape == (4, 5, 7, 3)
    assert transformer.compute_output_shape((None, 12, 10, 3)) == (None, 5, 7, 3)
    assert small_model(transformer).layers[1].output.shape == (None, 5, 7, 3)


def test_fill_surrounds_the_picture(pictures):
    away = SpatialTransformer(localisation(bias=[1, 0, 5, 0, 1, 0]), fill=-1.0)
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(away(pictures)), -1.0)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_half_precision_keeps_coordinates_exact(pictures, policy):
    shift = [1, 0, 2 / 9, 0, 1, 0]  # one pixel
    result = SpatialTransformer(localisation(bias=shift), dtype=policy)(pictures)
    assert keras.backend.standardize_dtype(result.dtype) == policy.removeprefix("mixed_")
    result = keras.ops.convert_to_numpy(keras.ops.cast(result, "float32"))
    # Half a unit in the last of bfloat16's 8 binary digits, and nothing more.
    np.testing.assert_allclose(result[:, :, :-1], pictures[:, :, 1:], atol=2**-9)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_saved_and_loaded_gives_the_same(pictures, tmp_path, sampler):
    transformer = SpatialTransformer(
        localisation("glorot_uniform"), output_size=(8, 9), sampler=sampler, fill=0.5, name="stn"
    )
    model = small_model(transformer)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded.predict(pictures, verbose=0), model.predict(pictures, verbose=0))
    kept = {key: value for key, value in transformer.get_config().items() if key != "localisation"}
    assert {key: find_transformer(loaded).get_config()[key] for key in kept} == kept


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_one_step_moves_the_localisation(pictures, sampler):
    transformer = SpatialTransformer(localisation(), sampler=sampler)
    model = small_model(transformer)
    model.compile("sgd", "sparse_categorical_crossentropy", run_eagerly=True, jit_compile=False)
    kernel, bias = (np.array(weight) for weight in transformer.localisation.get_weights())
    model.train_on_batch(pictures, np.array([0, 1, 0, 1]))
    moved_kernel, moved_bias = transformer.localisation.get_weights()
    assert (moved_kernel != kernel).all()
    assert (moved_bias != bias).all()


def test_learns_to_centre_a_spot():
    # The spot lies three pixels right of the centre; only the matrix can bring it to where the target has it.
    rows, columns = np.mgrid[0:15, 0:15].astype(np.float32)
    spot = np.exp(-((rows - 7) ** 2 + (columns - 10) ** 2) / 18)[None, ..., None]
    target = np.exp(-((rows - 7) ** 2 + (columns - 7) ** 2) / 18)[None, ..., None]
    pictures = keras.Input((15, 15, 1))
    transformer = SpatialTransformer(localisation())
    model = keras.Model(pictures, transformer(pictures))
    model.compile(keras.optimizers.Adam(0.02), "mse", jit_compile=False)
    losses = model.fit(spot, target, epochs=60, verbose=0).history["loss"]
    assert losses[-1] < 0.05 * losses[0]


def test_unknown_sampler_is_refused_with_the_nearest_name():
    with pytest.raises(ConfigError, match=r"must be one of \['article', 'exact'\], got 'exakt'. Did you mean `exact`"):
        SpatialTransformer(localisation(), sampler="exakt")


def test_found_by_type_wherever_it_stands():
    transformer = SpatialTransformer(localisation())
    assert find_transformer(small_model(transformer)) is transformer


def test_not_found_in_a_model_without():
    assert find_transformer(keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])) is None
