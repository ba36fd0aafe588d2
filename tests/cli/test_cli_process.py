"""The command line tunes its process before torch is imported; library code changes no environment."""

import json
import os
import subprocess
import sys

import pytest

import made

TUNED = {
    "OMP_WAIT_POLICY": "PASSIVE",
    "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "32",
    "LRU_CACHE_CAPACITY": "32",
    "KINETO_LOG_LEVEL": "99",
}
# Set by torch itself, when these are imported or when an optimizer is made.
OF_OTHERS = {"PYTORCH_NVML_BASED_CUDA_CHECK", "TORCHINDUCTOR_CACHE_DIR"}
RIVALS = ("GOMP_SPINCOUNT", "KMP_BLOCKTIME", "KMP_LIBRARY")


def environment(**values):
    kept = {key: value for key, value in os.environ.items() if key not in (*TUNED, *RIVALS)}
    return kept | {"OMP_NUM_THREADS": "1"} | values


def result_of(code, *arguments, **values):
    """Run Python in another process, and return the JSON that it prints last."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, env=environment(**values), check=True)
    return json.loads(done.stdout.splitlines()[-1])


# Runs the command line, and prints the environment at the moment when torch is imported.
COMMAND = """
import json, os, sys
before = dict(os.environ)
from regard.cli import main
assert dict(os.environ) == before and "torch" not in sys.modules

class Watch:
    seen = None
    def find_spec(self, name, path=None, target=None):
        if name == "torch" and self.seen is None:
            self.seen = dict(os.environ)

sys.meta_path.insert(0, watch := Watch())
sys.argv = ["regard", "recipes"]
try:
    main()
except SystemExit:
    pass
print(json.dumps(watch.seen))
"""

TUNE = (
    "import json, os; from regard.cli.process import tune_process; tune_process(); print(json.dumps(dict(os.environ)))"
)

LIBRARY = """
import json, os, sys
before = dict(os.environ)
import regard
assert dict(os.environ) == before
from rich.console import Console
from regard.training.loop import train
from regard.training.recipe import Recipe
train(Recipe.read(sys.argv[1]), sys.argv[2], sys.argv[3], console=Console(quiet=True), device="cpu")
print(json.dumps({key: value for key, value in os.environ.items() if before.get(key) != value}))
"""


def test_the_command_line_sets_the_environment_before_torch_is_imported():
    seen = result_of(COMMAND)
    assert {key: seen.get(key) for key in TUNED} == TUNED
    assert not seen.keys() & set(RIVALS)


def test_a_setting_of_the_user_wins():
    seen = result_of(COMMAND, OMP_WAIT_POLICY="ACTIVE", LRU_CACHE_CAPACITY="7")
    assert (seen["OMP_WAIT_POLICY"], seen["LRU_CACHE_CAPACITY"]) == ("ACTIVE", "7")


@pytest.mark.parametrize("rival", RIVALS)
def test_no_wait_policy_is_set_beside_another_setting_of_the_user(rival):
    seen = result_of(TUNE, **{rival: "1"})
    assert seen.keys() & {*TUNED, *RIVALS} == {*TUNED, rival} - {"OMP_WAIT_POLICY"}


def test_library_code_changes_no_environment(tmp_path):
    data = made.folder(tmp_path / "data")
    (tmp_path / "recipe.toml").write_text(made.recipe("scan-f8k", "train.epochs=1").to_toml(), "utf-8")
    changed = result_of(LIBRARY, tmp_path / "recipe.toml", data, tmp_path / "run")
    assert changed.keys() <= OF_OTHERS
