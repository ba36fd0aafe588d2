"""Every module imports, and the package costs nothing before it is used."""

import ast
import importlib
import pkgutil
from collections import Counter
from pathlib import Path

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


SOURCE = Path(regard.__file__).parent


def test_no_two_public_classes_share_a_name_and_no_two_files():
    """A reader who searches for a name finds one thing."""
    classes, files = Counter(), Counter()
    for path in SOURCE.rglob("*.py"):
        tree = ast.parse(path.read_text("utf-8"))
        classes.update(node.name for node in tree.body if isinstance(node, ast.ClassDef) and node.name[0] != "_")
        if path.name != "__init__.py" and path.parent.name != "cli":
            files[path.stem] += 1
    assert [name for name, count in classes.items() if count > 1] == []
    assert [name for name, count in files.items() if count > 1] == []


def test_no_file_is_long():
    long = {str(path): len(path.read_text("utf-8").splitlines()) for path in SOURCE.rglob("*.py")}
    assert {path: lines for path, lines in long.items() if lines > 500} == {}


def test_the_package_is_typed():
    assert (SOURCE / "py.typed").is_file()
