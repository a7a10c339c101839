"""The README's pictures in folders: trained as it is printed, on pictures whose classes differ in colour alone."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from makers import write
from PIL import Image

from stn_bench.study.catalogue import bundled_root

README = (bundled_root() / "README.md").read_text(encoding="utf-8")
PART = README.partition("### Use pictures in folders of my own\n")[2].partition("\n### ")[0]


def photograph(folder: Path) -> None:
    """Fill `pets` with pictures of several sizes and formats: cats are red, dogs are blue, and equally bright."""
    random = np.random.default_rng(0)
    for name, colour in (("cat", (120, 60, 60)), ("dog", (60, 71, 162))):
        (folder / name).mkdir(parents=True)
        for number in range(60):
            height, width = random.integers(30, 60, 2)
            pixels = random.normal(colour, 25, (height, width, 3)).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{number}.{('png', 'jpg', 'bmp')[number % 3]}")


@pytest.mark.slow
def test_they_are_told_apart_as_it_is_printed(tmp_path: Path) -> None:
    files = re.findall(r"```(?:python|toml)\n# (\S+)\n(.*?)```", PART, re.DOTALL)
    assert [name for name, _ in files] == ["pets.py", "studies/pets.toml", "ablations/color.toml"]
    for name, text in files:
        write(tmp_path / name, text)
    photograph(tmp_path / "pets")
    (command,) = re.findall(r"```\nstn-bench (.*)\n```", PART)
    done = subprocess.run(
        [sys.executable, "-m", "stn_bench", *command.split()],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "worse: with color = grayscale (grey) the model loses" in done.stdout
