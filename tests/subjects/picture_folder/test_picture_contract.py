"""Pictures in folders keep the contract of a subject."""

from __future__ import annotations

from picture_subjects import bars

from stn_bench.testing import SubjectContract


class TestBars(SubjectContract):
    subject = bars
