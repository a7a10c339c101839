"""What every subject must keep, for this one."""

from __future__ import annotations

from stn_bench.subjects.stn import subject
from stn_bench.testing import SubjectContract


class TestContract(SubjectContract):
    subject = subject
