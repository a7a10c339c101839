"""A transformer's effect on letters, in numbers: the article says that they become larger and move to the middle.

Pure. The unit is the picture: the intervals say how well these pictures tell of one model, not of its kind.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from stn_bench.stats import estimate

Answer = Literal["holds", "fails", "undecided"]


@dataclass(frozen=True)
class Mean:
    """A mean over pictures.

    Args:
        pictures: how many there are.
        value: the mean.
        low: lower end of Student's 95 % interval; NaN below two pictures.
        high: its upper end.
    """

    pictures: int
    value: float
    low: float
    high: float

    def above(self, bound: float) -> Answer:
        """Return whether the mean lies above a bound: "holds" or "fails" where the whole interval says so."""
        if self.low > bound:
            return "holds"
        return "fails" if self.high < bound else "undecided"


@dataclass(frozen=True)
class LetterCheck:
    """The article's two claims on some pictures.

    Args:
        magnification: geometric mean of how many times longer lengths became.
        larger: pictures in which they became longer at all.
        before: mean distance of the letter's centre of mass from the middle, in pixels.
        after: the same behind the transformer.
        centring: mean of before minus after: how far it moved towards the middle.
        nearer: pictures in which it came nearer at all.
        without_letter: pictures left out of the last four, with no letter before or none after.
    """

    magnification: Mean
    larger: int
    before: float
    after: float
    centring: Mean
    nearer: int
    without_letter: int

    @property
    def claims(self) -> dict[str, Answer]:
        """Whether the article's claims hold on these pictures: letters become larger, and move to the middle."""
        return {"larger": self.magnification.above(1.0), "centred": self.centring.above(0.0)}

    def lines(self) -> list[str]:
        """Return the check in sentences, a line each."""
        larger, centring = self.magnification, self.centring
        moved = f"{centring.value:+.2f} pixels towards it {_interval(centring, 2)}"
        lines = [
            f"letters become larger: {self.claims['larger']}. {larger.value:.3f} times as large "
            f"{_interval(larger, 3)}, geometric mean over {_pictures(larger.pictures)}; larger in {self.larger}",
            f"letters move to the middle: {self.claims['centred']}. {moved}, mean over "
            f"{_pictures(centring.pictures)}; the letter's centre of mass lies {self.before:.2f} pixels away "
            f"before and {self.after:.2f} after; nearer in {self.nearer}",
        ]
        if not centring.pictures:
            lines[1] = "letters move to the middle: undecided. No picture has a letter both before and after"
        if self.without_letter:
            lines.append(f"left out of the second: {_pictures(self.without_letter)} without a letter before or after")
        return [*lines, "in brackets: Student's 95 % intervals over these pictures, for this one model"]

    def tree(self) -> dict[str, Any]:
        """Return the same as plain data, for JSON; None stands for what is not a number."""
        return {"claims": self.claims, **_without_nan(asdict(self))}


def _without_nan(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {name: _without_nan(value) for name, value in tree.items()}
    return None if tree != tree else tree


def check_letters(
    magnification: NDArray[np.floating], before: NDArray[np.floating], after: NDArray[np.floating]
) -> LetterCheck:
    """Return the article's two claims in numbers.

    Args:
        magnification: how many times longer lengths became in each picture, `(n,)`.
        before: pixels from the middle to the letter's centre of mass, `(n,)`; NaN where no letter is found.
        after: the same behind the transformer.
    """
    inked = np.isfinite(before) & np.isfinite(after)
    before, after = before[inked].astype(np.float64), after[inked].astype(np.float64)
    logarithm = _mean(np.log(magnification.astype(np.float64)))
    return LetterCheck(
        magnification=Mean(
            logarithm.pictures, math.exp(logarithm.value), math.exp(logarithm.low), math.exp(logarithm.high)
        ),
        larger=int(np.sum(magnification > 1)),
        before=float(before.mean()) if before.size else math.nan,
        after=float(after.mean()) if after.size else math.nan,
        centring=_mean(before - after),
        nearer=int(np.sum(after < before)),
        without_letter=int(np.sum(~inked)),
    )


def _mean(values: NDArray[np.float64]) -> Mean:
    found = estimate(values.tolist())
    return Mean(found.n, found.mean, found.low, found.high)


def _interval(mean: Mean, digits: int) -> str:
    if math.isnan(mean.low):
        return "[no interval]"
    return f"[{mean.low:.{digits}f}, {mean.high:.{digits}f}]"


def _pictures(count: int) -> str:
    return f"{count} picture{'s' * (count != 1)}"
