"""Every module imports, and the package costs nothing before it is used."""

import importlib
import pkgutil
import subprocess
import sys

import pytest

import regard

HEAVY = {"torch", "numpy", "lightning_fabric", "matplotlib", "transformers"}


@pytest.mark.parametrize("name", [each.name for each in pkgutil.walk_packages(regard.__path__, "regard.")])
def test_every_module_imports(name):
    assert importlib.import_module(name).__doc__


def test_what_the_package_promises_is_there():
    assert [name for name in regard.__all__ if not callable(getattr(regard, name))] == []
    assert set(regard.__all__) == set(regard._WHERE)
    with pytest.raises(AttributeError, match="module 'regard' has no attribute 'laod'"):
        # The look-up itself is what must fail.
        regard.laod  # noqa: B018


def loaded_by(code: str) -> set[str]:
    """Which heavy modules a fresh interpreter has loaded after `code`."""
    code = f"import sys\n{code}\nprint('\\n' + ' '.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    return HEAVY & set(done.stdout.splitlines()[-1].split())


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["--version"], ["train", "--help"], ["data", "scenes", "--help"], ["relations", "fit", "--help"]],
)
def test_help_answers_without_torch(arguments):
    ended = (
        f"sys.argv = ['regard', *{arguments}]\ntry: main()\nexcept SystemExit as end: assert end.code == 0, end.code"
    )
    assert loaded_by(f"from regard.cli import main\n{ended}") == set()


def test_the_package_imports_without_torch_until_used():
    assert loaded_by("import regard") == set()
    assert "torch" in loaded_by("import regard; regard.score_all")
