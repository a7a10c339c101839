"""Studies and ablations as people write them, read and resolved; the plan and its preregistration."""
