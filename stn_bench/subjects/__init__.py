"""What can be studied. The wings never import a subject; they find it by its name."""

STATES = ("stn_bench.subjects.keras_training.global_state",)
"""Modules whose `LIBRARIES` are the global settings of libraries that a subject's trainings use; they load none."""
