"""A Keras model keeps the contract of a subject, as anybody's does."""

from __future__ import annotations

from keras_subjects import digits

from stn_bench.testing import SubjectContract


class TestDigits(SubjectContract):
    subject = digits
