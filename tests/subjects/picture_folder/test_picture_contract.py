"""Pictures in folders keep the contract of a subject."""

from __future__ import annotations

import pytest
from picture_subjects import bars

from stn_bench.testing import SubjectContract


@pytest.mark.slow  # trained as in `../test_keras_model_contract.py`; its data: `test_picture_folder.py`
class TestBars(SubjectContract):
    subject = bars
