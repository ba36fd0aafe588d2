"""Small annotated images."""

import pytest

import made
from regard.regions.annotations import Annotations


@pytest.fixture(scope="session")
def images() -> Annotations:
    return made.annotated(300)
