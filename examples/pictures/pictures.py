"""A Keras model of pictures in folders as a subject: road signs, one folder a class.

The pictures are drawn, once, into the folder `signs` beside this file: signs of six classes in front of cluttered
ground, of several sizes, none square, a few of them for training. Two classes are each other's mirror image.
"""

from typing import Literal

from pydantic import Field

from stn_bench.settings import Settings
from stn_bench.subject import Metric
from stn_bench.subjects.keras_model import KerasModel
from stn_bench.subjects.picture_folder import PictureFolder

HEIGHT, WIDTH = 36, 48
EACH = 200  # pictures of a class
TRAIN, VALIDATION, TEST = 0.3, 0.2, 0.5
DRAWN = 1  # the seed of the drawings
NOISE = 10
RED, BLUE, YELLOW, WHITE, BLACK = (178, 34, 40), (28, 70, 160), (226, 176, 30), (232, 232, 226), (24, 24, 24)


class Signs(Settings):
    """What a run is trained with."""

    color: Literal["rgb", "grayscale"] = "rgb"
    """What the pictures are read as."""
    moved: bool = False
    """Whether training pictures are shifted, turned and zoomed, each epoch otherwise."""
    mirrored: bool = False
    """Whether every second training picture, by chance, is mirrored."""
    filters: int = Field(12, ge=1)
    """Filters of the first convolution; the others have twice as many."""
    rate: float = Field(0.003, gt=0)
    """Learning rate."""
    epochs: int = Field(60, ge=1)
    """Passes over the training pictures."""
    batch_size: int = Field(24, ge=1)
    """Pictures in a step."""


def draw(folder):
    """Draw the signs: `folder/class/number.png`, 54 to 90 pixels high and a third wider."""
    import numpy as np
    from PIL import Image

    for index, (name, sign) in enumerate(sorted(SIGNS.items())):
        (folder / name).mkdir()
        for number in range(EACH):
            rng = np.random.default_rng([DRAWN, index, number])
            height = int(rng.integers(54, 91))
            size = (4 * height // 3, height)
            picture = clutter(rng, size)
            place(picture, sign, rng)
            light = rng.uniform(0.5, 1.1) * rng.uniform(0.9, 1.1, size=3)  # dusk, and lamps of other colours
            pixels = np.asarray(picture) * light + rng.normal(0, NOISE, size=(height, size[0], 3))
            Image.fromarray(pixels.clip(0, 255).astype("uint8")).save(folder / name / f"{number:03}.png")


def clutter(rng, size):
    """Return a picture of what may stand behind a sign: boxes and discs of any colour."""
    from PIL import Image, ImageDraw

    picture = Image.new("RGB", size, colour(rng))
    pen = ImageDraw.Draw(picture)
    for number in range(10):
        x, y = rng.uniform(0, size[0]), rng.uniform(0, size[1])
        width, height = rng.uniform(4, size[0] / 3), rng.uniform(4, size[1] / 2)
        shape = pen.rectangle if number % 2 else pen.ellipse
        shape((x - width / 2, y - height / 2, x + width / 2, y + height / 2), fill=colour(rng))
    return picture


def colour(rng):
    """Return any colour."""
    return tuple(int(one) for one in rng.integers(30, 220, size=3))


def place(picture, sign, rng):
    """Put a sign somewhere into a picture, turned by up to 15 degrees."""
    from PIL import Image, ImageDraw

    canvas = Image.new("RGBA", (128, 128))
    sign(ImageDraw.Draw(canvas))
    side = int(picture.height * rng.uniform(0.5, 0.85))
    turned = canvas.rotate(rng.uniform(-15, 15), Image.Resampling.BICUBIC).resize((side, side))
    corner = (int(rng.integers(0, picture.width - side)), int(rng.integers(0, picture.height - side)))
    picture.paste(turned, corner, turned)


def danger(pen):
    """Draw a white triangle with a red edge."""
    pen.polygon([(64, 12), (120, 110), (8, 110)], fill=RED)
    pen.polygon([(64, 40), (96, 96), (32, 96)], fill=WHITE)
    pen.rectangle((60, 56, 68, 88), fill=BLACK)


def give_way(pen):
    """Draw the same triangle on its head, empty."""
    pen.polygon([(64, 116), (120, 18), (8, 18)], fill=RED)
    pen.polygon([(64, 88), (96, 32), (32, 32)], fill=WHITE)


def no_entry(pen):
    """Draw a red disc with a white bar."""
    pen.ellipse((10, 10, 118, 118), fill=RED)
    pen.rectangle((28, 54, 100, 74), fill=WHITE)


def priority(pen):
    """Draw a yellow square on its corner."""
    pen.polygon([(64, 6), (122, 64), (64, 122), (6, 64)], fill=WHITE)
    pen.polygon([(64, 22), (106, 64), (64, 106), (22, 64)], fill=YELLOW)


def keep_left(pen):
    """Draw a blue disc with an arrow to the left."""
    pen.ellipse((10, 10, 118, 118), fill=BLUE)
    pen.rectangle((50, 56, 100, 72), fill=WHITE)
    pen.polygon([(22, 64), (60, 34), (60, 94)], fill=WHITE)


def keep_right(pen):
    """Draw a blue disc with an arrow to the right."""
    pen.ellipse((10, 10, 118, 118), fill=BLUE)
    pen.rectangle((28, 56, 78, 72), fill=WHITE)
    pen.polygon([(106, 64), (68, 34), (68, 94)], fill=WHITE)


SIGNS = {
    "danger": danger,
    "give way": give_way,
    "keep left": keep_left,
    "keep right": keep_right,
    "no entry": no_entry,
    "priority": priority,
}

signs = PictureFolder(
    "signs",
    make=draw,
    image_size=(HEIGHT, WIDTH),
    color_mode=lambda settings: settings.color,
    validation=VALIDATION,
    test=TEST,
)


def build(settings):
    """Return a model of pictures from 0 to 255; grey ones enter three times, so that every arm costs the same."""
    import keras  # in here, so that commands that train nothing need not load it

    layers = keras.layers
    grey = settings.color == "grayscale"
    picture = keras.Input((HEIGHT, WIDTH, 1 if grey else 3))
    seen = layers.Concatenate()([picture] * 3) if grey else picture
    seen = layers.Rescaling(1 / 255)(seen)
    if settings.mirrored:
        seen = layers.RandomFlip("horizontal")(seen)
    if settings.moved:
        seen = layers.RandomTranslation(0.15, 0.15)(seen)
        seen = layers.RandomRotation(0.04)(seen)  # of a full turn
        seen = layers.RandomZoom(0.2)(seen)
    for filters in (settings.filters, 2 * settings.filters, 2 * settings.filters):
        seen = layers.Conv2D(filters, 3, padding="same", activation="relu")(seen)
        seen = layers.MaxPooling2D()(seen)
    seen = layers.Dense(32, activation="relu")(layers.Flatten()(seen))
    return keras.Model(picture, layers.Dense(len(SIGNS), activation="softmax")(seen))


def wrong_side(labels, predicted):
    """Return 1 for each sign that is taken for its mirror image, else 0: `(pictures,)`."""
    from keras import ops

    left, right = (sorted(SIGNS).index(name) for name in ("keep left", "keep right"))
    said, shown = ops.argmax(predicted, axis=-1), ops.cast(ops.reshape(labels, (-1,)), "int32")
    mirrored = ops.where(shown == left, right, ops.where(shown == right, left, -1))
    return ops.cast(ops.cast(said, "int32") == mirrored, "float32")


def optimizer(settings):
    """Return a new optimizer."""
    import keras

    return keras.optimizers.Adam(settings.rate)


subject = KerasModel(
    Signs,
    data=signs,
    build=build,
    optimizer=optimizer,
    loss="sparse_categorical_crossentropy",
    metrics=[
        "accuracy",
        wrong_side,
        Metric("wrong_side", "fraction of the signs that are taken for their mirror image", "minimize", "fraction"),
    ],
    best="validation.accuracy",  # the epoch whose weights are tested
)
