"""What people write, read and resolved: files, studies, ablations, the plan and what was fixed of it."""
