"""stn-bench: an ablation harness that tracks every experiment.

Glossary, one word per thing:

- *ablation*: one question about a model, and the arms that answer it (`ablations/*.toml`).
- *arm*: the base configuration plus a few dotted overrides; *base*: the arm that the others are compared with.
- *study*: which ablations, on which seeds, with which tuning budget (`studies/*.toml`).
- *phase*: *tune* looks for hyperparameters, *verdict* compares the arms on seeds that tuning never saw.
- *cell*: one configuration with one seed, the unit of work; *trial*: a cell as Optuna sees it; *run*: as MLflow sees it.
- *run key*: the identity of a cell: configuration, seed, pictures, code and libraries.
- *record*: a finished run as a frozen value, all that a report sees.
"""

from __future__ import annotations

__version__ = "0.1.0"
