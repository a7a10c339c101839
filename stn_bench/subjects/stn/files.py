"""The files that a run keeps beside its numbers."""

from __future__ import annotations

MODEL = "model.keras"
"""The model with the weights of its best epoch; another training can go on from it."""

PREDICTIONS = "predictions.npz"
"""The model's prediction for each test picture."""

GALLERY = "rectified.npz"
"""Some test pictures before and after the transformer."""
