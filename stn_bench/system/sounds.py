"""What the name of a metric sounds like: asked to refuse or doubt what was said of it, or to ask where nothing was."""

from __future__ import annotations

import re
from typing import Any, Literal, get_args

from stn_bench.system.errors import ConfigError
from stn_bench.system.text import shorten

Direction = Literal["maximize", "minimize"]


class Unsaid(str):
    """A direction that nobody said: the usual one, where the name of a metric does not deny it."""

    __slots__ = ()


UNSAID: Any = Unsaid("maximize")

NO_FRACTIONS = frozenset(
    {"loss", "losses", "mae", "mse", "rmse", "nrmse", "rmsle", "msle", "mape", "smape", "perplexity", "ppl", "nll"}
    | {"bce", "kld", "entropy", "xent", "hinge", "deviance", "time", "times", "seconds", "secs", "runtime", "ms"}
    | {"duration", "latency", "cost", "costs", "regret", "fid", "lpips", "bpb", "bpc", "residual", "residuals"}
    | {"wasserstein", "watts", "joules", "flops", "bytes"}
)
"""Of these less is better, and they are no fractions."""

UNBOUNDED = NO_FRACTIONS | {"likelihood", "elbo", "psnr", "throughput", "fps", "speedup", "hits"}

LESS = NO_FRACTIONS | (
    {"error", "errors", "err", "wer", "cer", "eer", "brier", "ece", "misclassification", "misclassified", "fpr", "fnr"}
    | {"mistakes", "wrong", "errorrate", "falsepositive", "falsenegative", "falsepositives", "falsenegatives"}
)
MORE = frozenset(
    {"accuracy", "acc", "f1", "auc", "auroc", "auprc", "precision", "recall", "iou", "miou", "bleu", "rouge", "psnr"}
    | {"ssim", "r2", "throughput", "meanap", "ndcg", "mrr", "mcc", "kappa", "jaccard", "silhouette", "likelihood"}
    | {"elbo", "tpr", "tnr", "sensitivity", "specificity", "fps", "speedup", "hits", "correct"}
)
ENDINGS = ("loss", "error", "entropy", "latency", "inaccuracy", "accuracy")
"""Words that others are written together with, as in `testloss` and `crossentropy`; `gloss` is one of its own."""

OTHERS = frozenset({"gloss", "floss", "terror"})
NEGATED = frozenset({"neg", "negative", "negated"})
"""Before a word of which less is better they turn it round, as in scikit-learn's `neg_mean_squared_error`."""

UNSURE = frozenset(
    {"reduction", "reduced", "reducing", "saved", "saving", "savings", "improvement", "gain", "drop", "decrease"}
    | {"increase", "recovery", "recovered", "to", "survival", "failure", "free", "inverse", "inv", "recip", "lifetime"}
    | {"uptime", "delta", "difference", "gap", "ratio", "without", "avoided"}
)
"""With one of these a name tells nothing: of `loss_reduction` and of `time_to_failure` more may be better."""


def words_of(name: str) -> tuple[str, ...]:
    """Return the words of a name in small letters, and without trailing numbers: "valLoss_2" has val and loss."""
    parted = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()
    parted = re.sub(r"(?<![a-z\d])1 ?[-−_] ?(?=[a-z])", "minus_", parted.replace("m_ap", "meanap"))
    parted = re.sub(
        r"bits_per_(byte|char|dim)\w*", "bpb", re.sub(r"false[\W_]+(positive|negative)", r"false\1", parted)
    )
    words = (word for word in re.split(r"[\W_]+", parted) if word)
    return tuple(word if word in MORE else word.rstrip("0123456789²³") or word for word in words)


def sounds(name: str) -> Direction | None:
    """Return which way a metric of this name is better, or None where nothing tells.

    The last word that tells of it decides: `loss_accuracy` is an accuracy, `accuracy_loss` a loss.
    """
    if not (told := _telling(name)):
        return None
    before, word = told
    way = _way(word)
    if "minus" in before or (set(before) & NEGATED and (way == "minimize" or word == "likelihood")):
        return "maximize" if way == "minimize" else "minimize"
    return None if set(before) & NEGATED else way  # the F1 of a class that is called negative, or minus it?


def _telling(name: str) -> tuple[tuple[str, ...], str] | None:
    """Return the last word of a name that tells which way it is better, behind those before it."""
    words = words_of(name)
    places = [place for place, word in enumerate(words) if _way(word) and "per" not in words[place - 1 : place]]
    if not places or set(words) & UNSURE:
        return None
    return words[: places[-1]], words[places[-1]]


def _way(word: str) -> Direction | None:
    if word in LESS or (word.endswith(ENDINGS[:-1]) and word not in OTHERS):
        return "minimize"
    return "maximize" if word in MORE or word.endswith(ENDINGS[-1]) else None


def is_no_fraction(name: str) -> bool:
    """Return whether a metric of this name is none that lies between 0 and 1 by its nature."""
    told = _telling(name)
    words = (told[1],) if told else words_of(name)
    if set(words_of(name)) & {"squared", "absolute"}:  # errors in the unit of what is predicted
        return True
    return any(word in UNBOUNDED or word.endswith(("loss", "entropy", "latency")) for word in words)


def said(name: str, direction: Direction) -> Direction:
    """Return the direction of a metric as somebody said it, or the usual one.

    Raises:
        ConfigError: if it is no direction, or if nobody said it, and the name says that less is better.
    """
    if direction not in get_args(Direction):
        raise ConfigError(
            f'Metric("{shorten(name)}"): direction: expected maximize or minimize, got {shorten(str(direction))}'
        )
    if not isinstance(direction, Unsaid):
        return direction
    if sounds(name) == "minimize":
        raise ConfigError(
            f'Metric("{shorten(name)}"): which way is it better? Write Metric("{shorten(name)}", "what it is", '
            f'"minimize"), or "maximize"'
        )
    return "maximize"
