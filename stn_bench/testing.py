"""The contract suite: what every subject must keep, for anybody's subject, by pytest.

    from stn_bench.testing import SubjectContract
    from digits import subject

    class TestDigits(SubjectContract):
        subject = subject

It trains the subject's `small` settings about five times.
"""

from __future__ import annotations

import atexit
import dataclasses
import importlib
import json
import math
import pickle
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from stn_bench.isolation import isolated
from stn_bench.runner.determinism import Trained, first_difference
from stn_bench.runner.job import LentRun
from stn_bench.settings import Settings, override
from stn_bench.study.metrics import TEST
from stn_bench.study.soundness import complaints
from stn_bench.subject import (
    EXAMPLES,
    DataNote,
    Finding,
    KeptRun,
    Lent,
    Outcome,
    Subject,
    find_subject,
    is_shipped,
    shipped_subjects,
)
from stn_bench.system.errors import ConfigError, Interrupted, StoreError
from stn_bench.tracking.identity import identify

MEASURED = ("cost.seconds", "cost.cpu_seconds", "cost.step_ms", "cost.peak_memory_mb")
"""Costs that differ from one training to the next, and that the harness measures where a subject does not."""

KEY = "0" * 64
"""A run key."""

ALIKE = 0.03
"""How far a matched model may be from the base's FLOPs, relative to them."""


@dataclasses.dataclass(frozen=True)
class Witnessed:
    """A training as the suite saw it: what it returned, the epochs that it told of, and its folder of files."""

    outcome: Outcome
    told: tuple[tuple[int, Mapping[str, float]], ...]
    files: Path


class SubjectContract:
    """The tests; a class of yours inherits them and names its subject."""

    subject: ClassVar[Subject]
    _kept: ClassVar[dict[Any, Any]]

    def __init_subclass__(cls) -> None:
        cls._kept = {}

    # What it is tested with -------------------------------------------------------------------------------------

    @property
    def settings(self) -> Any:
        """The small settings, resolved."""
        return self.subject.read(self.subject.small).resolved()

    @property
    def home(self) -> Path:
        """A folder of the suite's own, with data for the small settings."""
        if "home" not in self._kept:
            home = Path(tempfile.mkdtemp(prefix="stn-bench-contract-"))
            atexit.register(shutil.rmtree, home, ignore_errors=True)
            if self.subject.prepare:
                self.subject.prepare([self.settings], Lent(home / "data"))
            self._kept["home"] = home
        return Path(self._kept["home"])

    def train(self, seed: int, folder: Path, *, stop_after: int = 0, start: Path | None = None) -> Witnessed:
        """Train the small settings once, interrupted after an epoch if that is asked for."""
        told: list[tuple[int, Mapping[str, float]]] = []

        def tell(epoch: int, metrics: Mapping[str, float]) -> None:
            told.append((epoch, dict(metrics)))
            if epoch == stop_after:
                raise Interrupted(f"stopped after epoch {epoch}")

        checkpoints, files = folder / "checkpoints", Path(tempfile.mkdtemp(dir=self.home))
        checkpoints.mkdir(parents=True, exist_ok=True)
        lent = LentRun(KEY, self.home / "data", checkpoints, files, tell, start)
        with isolated(seed):
            left = self.subject.train(self.settings, seed, lent)
        outcome = left if isinstance(left, Outcome) else Outcome(left)
        if outcome.examples:  # as the harness keeps them
            arrays: dict[str, Any] = dict(outcome.examples)
            np.savez_compressed(files / EXAMPLES, **arrays)
        return Witnessed(outcome, tuple(told), files)

    def trained(self, seed: int = 1, *, again: bool = False) -> Witnessed:
        """Return an undisturbed training with a seed, the same for all tests; or a second one that is alike."""
        if (seed, again) not in self._kept:
            self._kept[seed, again] = self.train(seed, self.home / f"seed-{seed}{'-again' * again}")
        found: Witnessed = self._kept[seed, again]
        return found

    # Settings ---------------------------------------------------------------------------------------------------

    def test_every_setting_has_a_default(self) -> None:
        """Its settings can be made of nothing, and have the paths that the subject says."""
        assert issubclass(self.subject.settings, Settings)
        assert tuple(self.subject.settings().flat()) == self.subject.paths

    def test_settings_are_overridden_by_dotted_path(self) -> None:
        """Settings written out and read again are the same, and an unknown path is refused."""
        for settings in (self.subject.settings(), self.settings):
            assert override(self.subject.settings(), settings.flat()) == settings
        with pytest.raises(ConfigError, match="no setting"):
            self.subject.read({"no.such.setting": 1})

    def test_settings_have_one_canonical_form(self) -> None:
        """It is JSON without what is in no identity, and the same whether derived values are written out or not."""
        settings = self.subject.settings()
        assert settings.canonical() == settings.resolved().canonical()
        keyed = set(json.loads(settings.canonical()))
        assert keyed == set(self.subject.paths) - set(settings.unkeyed) - set(settings.later)
        assert self.subject.read(json.loads(settings.canonical())).canonical() == settings.canonical()

    def test_derived_settings_can_be_written_out_and_taken_back(self) -> None:
        """`unresolved` is the inverse of `resolved`, and resolving twice changes nothing more."""
        settings = self.subject.settings()
        assert settings.resolved().unresolved() == settings
        assert settings.resolved().resolved() == settings.resolved()

    def test_a_study_finds_nothing_wrong_with_it(self) -> None:
        """It is what `check` wants somebody's own subject to be."""
        assert next(complaints(self.subject), None) is None

    def test_it_names_settings_that_there_are(self) -> None:
        """The subject names only settings of its own."""
        one, paths = self.subject, set(self.subject.paths)
        named = {*one.budget, *one.small, *one.parts, *one.settings.unkeyed, *one.settings.later}
        named |= {*filter(None, (one.epochs, one.timeout))}
        assert named <= paths
        assert {one.timeout} - {""} <= set(one.settings.unkeyed)

    def test_it_is_found_by_its_name_in_another_process(self) -> None:
        """Its settings can be pickled, and its name leads to it."""
        assert pickle.loads(pickle.dumps(self.settings)) == self.settings
        name = self.subject.name
        if not is_shipped(name) or name in shipped_subjects():  # else it gets its name from where a study finds it
            assert find_subject(name) == self.subject

    # Metrics ----------------------------------------------------------------------------------------------------

    def test_every_metric_has_a_meaning(self) -> None:
        """No metric is declared twice, and each says in a sentence without its full stop what it is."""
        declared = [*self.subject.metrics, *([self.subject.curve] if self.subject.curve else [])]
        names = [metric.name for metric in self.subject.metrics]
        assert len(set(names)) == len(names)
        assert all(metric.meaning and not metric.meaning.endswith(".") for metric in declared)
        for metric in declared:
            if metric.resolution:
                assert 0 < metric.resolution(self.settings) <= 1

    def test_tuning_sees_no_test_metric(self) -> None:
        """Tuning looks at declared metrics, and at none of the test examples."""
        assert set(self.subject.tune_on) <= set(self.subject.known_metrics)
        assert not [name for name in self.subject.tune_on if name.startswith(TEST)]

    # Training ---------------------------------------------------------------------------------------------------

    def test_training_gives_the_declared_metrics(self) -> None:
        """All of them, finite unless it diverged, and no other."""
        outcome = self.trained().outcome
        assert all(isinstance(float(value), float) for value in outcome.metrics.values())
        if outcome.status == "diverged":
            assert outcome.reason
            return
        assert all(math.isfinite(value) for value in outcome.metrics.values())
        cost = outcome.cost
        paid = {f"cost.{name}" for name in ("parameters", "flops") if cost and getattr(cost, name) is not None}
        declared = {metric.name for metric in self.subject.metrics}
        assert declared <= {*outcome.metrics, *MEASURED, *paid}
        assert not declared or set(outcome.metrics) <= set(self.subject.known_metrics)

    def test_the_same_seed_gives_the_same_bits(self) -> None:
        """Two trainings with one seed agree in every metric and in all that they left."""
        one, other = self.trained(), self.trained(again=True)
        assert first_difference(Trained.of(one.outcome), Trained.of(other.outcome)) is None

    def test_another_seed_gives_other_numbers(self) -> None:
        """A seed that changes nothing cannot replicate a result."""
        one, other = self.trained(), self.trained(seed=2)
        assert first_difference(Trained.of(one.outcome), Trained.of(other.outcome)) is not None

    def test_an_interrupted_training_goes_on_to_the_same_bits(self) -> None:
        """It tells of the epochs behind it again, and ends as if it had never stopped."""
        whole = self.trained()
        if len(whole.told) < 2:
            pytest.skip("it tells of no epochs")
        folder = self.home / "interrupted"
        with pytest.raises(Interrupted):
            self.train(1, folder, stop_after=whole.told[0][0])
        rest = self.train(1, folder)
        assert rest.told == whole.told
        assert first_difference(Trained.of(whole.outcome), Trained.of(rest.outcome)) is None

    def test_the_history_has_one_value_an_epoch(self) -> None:
        """It agrees with what was told while training, which need not be each epoch, and with the setting."""
        training = self.trained()
        history, epochs = training.outcome.history, [epoch for epoch, _ in training.told]
        assert epochs == sorted(epochs)
        last = max(epochs, default=0)
        assert all(len(series) <= last for series in history.values())
        for epoch, metrics in training.told:
            assert all(history[name][epoch - 1] == value for name, value in metrics.items() if name in history)
        if self.subject.epochs and training.outcome.status == "finished":
            most = self.subject.num_epochs(self.settings.flat())
            assert most is not None
            assert 0 < last <= most  # a training may stop early
        if self.subject.curve and training.told:
            assert self.subject.curve.name in training.told[0][1]

    def test_examples_average_to_their_metric(self) -> None:
        """Where a value is known for each test example, the metric is their mean."""
        training = self.trained()
        assert set(training.outcome.examples) <= set(training.outcome.metrics)
        for metric, value in training.outcome.metrics.items():
            try:
                found = self.subject.read_examples(metric, lambda name: _kept(training.files, name))
            except StoreError:
                continue
            if found is not None:
                assert found.ndim == 1
                assert float(np.mean(found)) == pytest.approx(value, rel=1e-6, abs=1e-9)
                examples = self.subject.known_metrics[metric].examples(self.settings)
                assert examples in (None, len(found))

    def test_a_training_can_go_on_from_a_finished_one(self) -> None:
        """The file that the subject says is there, and a training that starts from it comes to its end."""
        if not self.subject.start:
            pytest.skip("it keeps nothing to go on from")
        start = _kept(self.trained().files, self.subject.start)
        outcome = self.train(3, self.home / "started", start=start).outcome
        assert outcome.metrics.keys() == self.trained().outcome.metrics.keys()

    def test_only_harmless_files_travel(self) -> None:
        """An exported archive takes numpy's arrays along, and nothing that runs when it is read."""
        assert all(name.endswith(".npz") for name in self.subject.travels)

    # Hooks ------------------------------------------------------------------------------------------------------

    def test_data_have_a_fingerprint_once_they_are_there(self, tmp_path: Path) -> None:
        """None before they are made, then 64 hexadecimal digits, the same after they are asked for again."""
        if not (self.subject.prepare and self.subject.fingerprint):
            pytest.skip("its training loads its own data")
        assert self.subject.fingerprint(self.settings, tmp_path) is None
        found = self.subject.fingerprint(self.settings, self.home / "data")
        assert found is not None
        assert len(bytes.fromhex(found)) == 32
        self.subject.prepare([self.settings], Lent(self.home / "data"))
        assert self.subject.fingerprint(self.settings, self.home / "data") == found

    def test_the_files_that_its_data_need_are_there(self) -> None:
        """A packed study takes them along."""
        if self.subject.originals is None:
            pytest.skip("its data are made anew")
        home = self.home / "data"
        assert all(path.exists() for path in self.subject.originals(self.settings, home))

    def test_the_cost_on_paper_is_that_of_the_training(self) -> None:
        """Parameters and operations agree, and those of the layers add up."""
        paid = self.trained().outcome.cost
        if paid and paid.layers and not paid.uncounted:
            assert sum(layer.flops for layer in paid.layers) == pytest.approx(paid.flops)
        cost = self.subject.cost(self.settings) if self.subject.cost else None
        for name in ("parameters", "flops"):
            if cost and paid and None not in (getattr(cost, name), getattr(paid, name)):
                assert getattr(cost, name) == pytest.approx(getattr(paid, name), rel=1e-3), name

    def test_a_matched_arm_costs_what_the_base_costs(self) -> None:
        """What `match` finds are settings, and with them the model has the base's operations."""
        if not (self.subject.match and self.subject.cost):
            pytest.skip("it matches nothing")
        base = self.subject.settings()
        matched, wanted = override(base, self.subject.match(base, base)), self.subject.cost(base)
        found = self.subject.cost(matched)
        assert wanted is not None
        assert found is not None
        assert found.flops == pytest.approx(wanted.flops, rel=ALIKE)

    def test_it_tells_what_a_reader_should_know(self) -> None:
        """Caveats are sentences, what is given are positive numbers of nouns, and data are described or not."""
        settings = self.settings
        if self.subject.caveats:
            told = [*self.subject.caveats(settings, None), *self.subject.caveats(settings, settings)]
            assert all(sentence and sentence[0].isupper() and sentence.endswith(".") for sentence in told)
        if self.subject.idle:
            idle = self.subject.idle(settings)
            assert set(idle) <= set(self.subject.paths)
            assert all(isinstance(why, str) and why for why in idle.values())
        if self.subject.given:
            given = self.subject.given(settings)
            assert all(noun and isinstance(number, int) and number > 0 for noun, number in given.items())
        if self.subject.describe:
            assert isinstance(self.subject.describe(settings.flat()), DataNote)
            assert self.subject.describe({}) is None

    def test_its_figures_are_pictures(self) -> None:
        """Two finished runs are drawn, each figure under a name of its own; nothing is drawn of nothing."""
        if not self.subject.figures:
            pytest.skip("it draws no figures")
        runs = [KeptRun(seed, self.settings.flat(), self._reader(seed)) for seed in (1, 2)]
        moved = frozenset(self.subject.paths)
        figures = list(self.subject.figures(moved, {"base": runs, "arm": runs[:1]}))
        assert len({figure.name for figure in figures}) == len(figures)
        assert all(figure.png.startswith(b"\x89PNG") and figure.caption for figure in figures)
        assert list(self.subject.figures(frozenset(), {"base": runs})) == []

    def _reader(self, seed: int) -> Any:
        return lambda name: _kept(self.trained(seed).files, name)

    def test_the_doctor_is_told_what_it_needs(self) -> None:
        """Each finding says what was found, and what to do where it is not sound."""
        for finding in self.subject.check() if self.subject.check else ():
            assert isinstance(finding, Finding)
            assert finding.check
            assert finding.found
            assert finding.sound or finding.advice

    def test_its_commands_can_be_mounted(self) -> None:
        """The module of its commands has `mount`."""
        if self.subject.commands:
            assert callable(importlib.import_module(self.subject.commands).mount)

    def test_its_code_and_libraries_are_in_the_run_key(self) -> None:
        """A key is made of what a training reaches, and differs for another seed and other settings."""
        flat = self.settings.flat()
        identity = identify(self.subject, flat, 1, "")
        assert identity.code
        assert identity.libraries
        assert identity.run_key == identify(self.subject, dict(flat), 1, "").run_key
        assert identity.run_key != identify(self.subject, flat, 2, "").run_key
        assert all(":" in path for path in self.subject.foreign_code(self.settings))


def _kept(files: Path, name: str) -> Path:
    """Return a file that a run kept, as the store gives it."""
    if not (files / name).exists():
        raise StoreError(f"artifact `{name}` cannot be read")
    return files / name


__all__ = ["SubjectContract", "Witnessed"]
