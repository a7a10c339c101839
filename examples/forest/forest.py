"""A scikit-learn function as a subject: a forest of decision trees reads scikit-learn's 8×8 digits.

Each parameter of `train` but `seed` is a setting, with its default in the base. scikit-learn's version is in the run
key, and so is every line that `train` reaches.
"""

from typing import Literal

from sklearn.datasets import load_digits
from sklearn.ensemble import ExtraTreesClassifier, RandomForestClassifier
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from stn_bench.subject import Metric

KINDS = {"best": RandomForestClassifier, "random": ExtraTreesClassifier}
TRAIN, VALIDATION = 600, 600  # digits; the other 597 are the test


def train(
    *,
    seed,
    trees: int = 50,
    thresholds: Literal["best", "random"] = "best",
    features: Literal["sqrt", "all"] = "sqrt",
    bootstrap: bool = True,
    leaf: int = 1,
    scaling: Literal["none", "standard"] = "none",
):
    """Return the accuracies of a forest whose split of the digits, trees and all else follow from the seed.

    Args:
        seed: the seed.
        trees: number of trees.
        thresholds: "best" searches the best threshold of each feature, "random" draws one for each.
        features: "sqrt" offers each split a random 8 of the 64 pixels, "all" offers all of them.
        bootstrap: whether each tree sees a sample of the digits with replacement, or all of them once.
        leaf: fewest digits in a leaf.
        scaling: "standard" gives each pixel mean 0 and standard deviation 1 beforehand.
    """
    pixels, digits = load_digits(return_X_y=True)
    x, rest_x, y, rest_y = train_test_split(pixels, digits, train_size=TRAIN, random_state=seed, stratify=digits)
    validation_x, test_x, validation_y, test_y = train_test_split(
        rest_x, rest_y, train_size=VALIDATION, random_state=seed, stratify=rest_y
    )
    forest = KINDS[thresholds](
        trees,
        max_features="sqrt" if features == "sqrt" else None,
        bootstrap=bootstrap,
        min_samples_leaf=leaf,
        random_state=seed,
    )
    model = make_pipeline(StandardScaler(), forest) if scaling == "standard" else forest
    model.fit(x, y)
    return {
        "test.accuracy": model.score(test_x, test_y),
        "validation.accuracy": model.score(validation_x, validation_y),
    }


train.metrics = [  # optional: what each metric is; of a fraction the report shows per cent and points
    Metric(
        "test.accuracy",
        "fraction of test digits read correctly",
        scale="fraction",
        resolution=lambda settings: 1 / (1797 - TRAIN - VALIDATION),  # one digit more or less
    ),
    Metric(
        "validation.accuracy",
        "fraction of validation digits read correctly",
        scale="fraction",
        resolution=lambda settings: 1 / VALIDATION,
    ),
]
