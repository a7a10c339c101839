import keras
import pytest

from stn_bench.settings import override
from stn_bench.subjects.keras_training.flops import count_parameters, layer_costs
from stn_bench.subjects.stn.config import Config
from stn_bench.subjects.stn.nn.build import build_model
from stn_bench.subjects.stn.nn.compiled import transformer_flops


def count_flops(model):
    """Return the operations of all layers, the layers, and the names of those that are not known."""
    layers, unknown = layer_costs(model, transformer_flops)
    return sum(layer.flops for layer in layers), layers, unknown


def one_layer(layer, shape):
    picture = keras.Input(shape)
    return keras.Model(picture, layer(picture))


@pytest.mark.parametrize(
    ("layer", "flops"),
    [
        # 3x3 output places, 5 channels; each 2*2 taps over 4 channels as multiply-adds, and a bias.
        (keras.layers.Conv2D(5, 2, strides=2), 3 * 3 * 5 * (2 * 2 * 2 * 4 + 1)),
        (keras.layers.Conv2D(5, 2, strides=2, use_bias=False), 3 * 3 * 5 * (2 * 2 * 2 * 4)),
        (keras.layers.Conv2D(5, 2, strides=2, activation="relu"), 3 * 3 * 5 * (2 * 2 * 2 * 4 + 1 + 1)),
        (keras.layers.Conv2D(8, 3, padding="same", groups=2), 6 * 6 * 8 * (2 * 3 * 3 * 2 + 1)),
        (keras.layers.DepthwiseConv2D(3, padding="same"), 6 * 6 * 4 * (2 * 3 * 3 + 1)),
        (keras.layers.SeparableConv2D(7, 3, padding="same"), 6 * 6 * 4 * 2 * 9 + 6 * 6 * 7 * (2 * 4 + 1)),
        (keras.layers.Dense(7), 6 * 6 * 7 * (2 * 4 + 1)),
        (keras.layers.BatchNormalization(), 2 * 6 * 6 * 4),
        (keras.layers.Rescaling(2.0), 2 * 6 * 6 * 4),
        (keras.layers.Activation("tanh"), 6 * 6 * 4),
        (keras.layers.MaxPooling2D(3), 2 * 2 * 4 * 9),
        (keras.layers.GlobalAveragePooling2D(), 6 * 6 * 4),
        (keras.layers.Dropout(0.5), 0),
        (keras.layers.Flatten(), 0),
    ],
)
def test_one_layer_by_hand(layer, flops):
    total, _, unknown = count_flops(one_layer(layer, (6, 6, 4)))
    assert (total, unknown) == (flops, ())


def article(**transformer):
    return build_model(override(Config(), {f"model.transformer.{key}": value for key, value in transformer.items()}))


TRUNK_FLOPS = (
    20 * 20 * 512 * (2 * 5 * 5 * 3 + 1)  # convolution of 3 channels, stride 3: 60 -> 20
    + 10 * 10 * 256 * (2 * 3 * 3 * 512 + 1)  # stride 2: 20 -> 10
    + 5 * 5 * 64 * (2 * 3 * 3 * 256 + 1)  # stride 2: 10 -> 5
    + (1 + 2) * (20 * 20 * 512 + 10 * 10 * 256 + 5 * 5 * 64)  # ReLU and normalisation
)
CLASSIFIER_FLOPS = TRUNK_FLOPS + 5 * 5 * 26 * (2 * 3 * 3 * 64 + 1) + 5 * 5 * 26 + 26
RESCALING_FLOPS = 2 * 60 * 60 * 3
LOCALISATION_FLOPS = TRUNK_FLOPS + 5 * 5 * 20 * (2 * 3 * 3 * 64 + 2) + 5 * 5 * 20 + 6 * (2 * 20 + 1)
SAMPLER_FLOPS = 60 * 60 * (2 * 3 * 2) + 60 * 60 * 3 * (4 * 2)

TRUNK_PARAMETERS = (
    (5 * 5 * 3 * 512 + 512)
    + (3 * 3 * 512 * 256 + 256)
    + (3 * 3 * 256 * 64 + 64)
    + 7 * (512 + 256 + 64)  # scale, bias and five moving statistics of batch renormalisation
)


def test_the_article_by_hand():
    assert count_flops(article(kind="none"))[0] == RESCALING_FLOPS + CLASSIFIER_FLOPS
    total, layers, unknown = count_flops(article())
    assert total == RESCALING_FLOPS + LOCALISATION_FLOPS + SAMPLER_FLOPS + CLASSIFIER_FLOPS
    assert unknown == ()
    assert len({layer.name for layer in layers}) == len(layers)


def test_parameters_of_the_article_by_hand():
    # Nothing for the seeds of the dropout layers.
    assert count_parameters(article(kind="none")) == TRUNK_PARAMETERS + 3 * 3 * 64 * 26 + 26
    localisation = TRUNK_PARAMETERS + 3 * 3 * 64 * 20 + 20 + 20 * 6 + 6
    assert count_parameters(article()) == TRUNK_PARAMETERS + 3 * 3 * 64 * 26 + 26 + localisation


def test_parameters_leave_out_the_optimizer():
    model = one_layer(keras.layers.Dense(7), (4,))
    model.compile("adam", "mse")
    model.optimizer.build(model.trainable_variables)
    assert count_parameters(model) == 4 * 7 + 7


def test_a_shared_layer_counts_each_time():
    picture, dense = keras.Input((4,)), keras.layers.Dense(4)
    assert count_flops(keras.Model(picture, dense(dense(picture))))[0] == 2 * 4 * (2 * 4 + 1)


def test_a_shared_model_counts_each_time():
    inner = keras.Sequential([keras.Input((4,)), keras.layers.Dense(4)])
    picture = keras.Input((4,))
    outer = keras.Model(picture, keras.layers.Add()([inner(picture), inner(inner(picture))]))
    assert count_flops(outer)[0] == 3 * 4 * (2 * 4 + 1) + 4


def test_without_its_own_counter_a_transformer_is_named_as_not_known():
    known, unknown = layer_costs(article())
    assert unknown == ("transformer",)
    assert sum(layer.flops for layer in known) == RESCALING_FLOPS + CLASSIFIER_FLOPS
