"""A fixture of small annotated images."""

import pytest

import made
from regard.relations.annotations import Annotations


@pytest.fixture(scope="session")
def images() -> Annotations:
    return made.annotated(300)
