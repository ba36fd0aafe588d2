"""Every module imports, and the package costs nothing before it is used."""

import importlib
import pkgutil

import pytest

import regard
from commands import loaded_by


@pytest.mark.parametrize("name", [each.name for each in pkgutil.walk_packages(regard.__path__, "regard.")])
def test_every_module_imports(name):
    assert importlib.import_module(name).__doc__


def test_what_the_package_promises_is_there():
    assert [name for name in regard.__all__ if not callable(getattr(regard, name))] == []
    assert set(regard.__all__) == set(regard._WHERE)
    with pytest.raises(AttributeError, match="module 'regard' has no attribute 'laod'"):
        # The look-up itself is what must fail.
        regard.laod  # noqa: B018


def test_the_package_imports_without_torch_until_used():
    assert loaded_by("import regard") == set()
    assert "torch" in loaded_by("import regard; regard.score_all")
