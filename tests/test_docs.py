"""Checks of the documents: links resolve, code runs, counts are correct, and the example model obeys the laws."""

import importlib.util
import re
import sys
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import made
import test_contract
from reference.common import Item
from regard import __version__
from regard.batch import Images, Texts
from regard.bench.measurement import pair_flops
from regard.layers.encoders import GRUEncoder
from regard.models import MODELS
from regard.training.ablate import rows_of
from regard.training.recipe import Recipe
from regard.words import Vocabulary
from regard.words.vocabulary import SPECIALS
from test_models import items

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
every_page = pytest.mark.parametrize("page", PAGES, ids=[page.name for page in PAGES])

REGIONS, WORDS, FEATURE_DIM, NUM_WORDS = 36, 13, 2048, 8481


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text("utf-8"), re.M | re.S)


def prose(page: Path) -> str:
    return re.sub(r"^```.*?^```$", "", page.read_text("utf-8"), flags=re.M | re.S)


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub builds them: lower case, hyphens, no punctuation."""
    headings = re.findall(r"^#+ (.*)$", prose(page), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@every_page
def test_links_resolve(page):
    links = re.findall(r"\]\(([^)\s]+)\)", prose(page))
    for link in links:
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), f"{page.name} links to {link}"
        if anchor:
            assert anchor in anchors(target), f"{page.name} links to {link}"


@every_page
def test_python_in_pages_compiles(page):
    for number, block in enumerate(blocks(page, "python")):
        compile(block, f"{page.name}, block {number}", "exec")


def row_of(name: str) -> list[str]:
    text = (ROOT / "docs" / "models.md").read_text("utf-8")
    row = re.search(rf"^\| \[`{name}`\].*$", text, re.M)
    assert row, f"docs/models.md has no row for {name}"
    return [cell.strip() for cell in row[0].strip("|").split("|")]


def default_model(name: str) -> torch.nn.Module:
    names = (f"w{number}" for number in range(NUM_WORDS - len(SPECIALS)))
    vocabulary = Vocabulary.build([" ".join(names)], min_count=1)
    assert len(vocabulary) == NUM_WORDS
    config = MODELS[name].Config()
    return MODELS[name](config, FEATURE_DIM, GRUEncoder(vocabulary, config.dim)).eval()


def table_images() -> Images:
    """Return two images of 36 regions and 25 relations."""
    boxes = torch.rand(2, REGIONS, 2, 2).sort(2).values.flatten(2) + torch.tensor([0.0, 0.0, 0.1, 0.1])
    relations = torch.zeros(2, REGIONS, REGIONS, dtype=torch.long)
    relations[:, range(25), range(1, 26)] = 1
    mask = torch.ones(2, REGIONS, dtype=torch.bool)
    return Images(torch.randn(2, REGIONS, FEATURE_DIM), mask, boxes, mask.long(), relations)


def table_texts(model: torch.nn.Module) -> Texts:
    """Return two sentences of 13 words, boundaries included, whose two predicates each have a subject and an object."""
    texts = model.tokenizer([" ".join(f"w{number}" for number in range(WORDS - 2))] * 2)
    relations = torch.zeros(2, WORDS, WORDS, dtype=torch.long)
    relations[:, [3, 3, 7, 7], [2, 5, 5, 9]] = torch.tensor([1, 2, 1, 2])
    return replace(texts, relations=relations)


@pytest.mark.parametrize("name", MODELS)
def test_the_table_has_the_right_parameter_counts(name):
    model = default_model(name)
    whole, words = (sum(p.numel() for p in part.parameters()) / 1e6 for part in (model, model.words))
    assert row_of(name)[4] == f"{whole:.2f} M ({words:.2f} M)"


@pytest.mark.parametrize("name", MODELS)
@torch.no_grad()
def test_the_table_has_the_right_flops(name):
    model = default_model(name)
    images, texts = model.encode_images(table_images()), model.encode_texts(table_texts(model))
    assert row_of(name)[5] == f"{pair_flops(model, images, texts):,}"


def option_names(config: Any, prefix: str = "") -> list[str]:
    """Return the names of all options; those of a nested dataclass are dotted, such as graph.spatial."""
    names = []
    for field in fields(config):
        value, name = getattr(config, field.name), f"{prefix}{field.name}"
        names += option_names(value, f"{name}.") if is_dataclass(value) else [name]
    return names


def model_page(name: str) -> str:
    return (ROOT / "docs" / "models" / f"{name}.md").read_text("utf-8")


@pytest.mark.parametrize("name", MODELS)
def test_a_page_names_every_option(name):
    page = model_page(name)
    for option in option_names(MODELS[name].Config()):
        assert re.search(rf"`([a-z]+\.)?{re.escape(option)}`", page), (
            f"docs/models/{name}.md does not name the option {option}"
        )


@pytest.mark.parametrize("name", MODELS)
def test_a_page_names_every_ablation_row(name):
    page = model_page(name)
    for row in rows_of(name):
        assert re.search(rf"^\|.*`{row}`.*\|", page, re.M), f"docs/models/{name}.md does not name the row {row}"


@pytest.mark.parametrize("name", MODELS)
def test_a_page_has_every_equation(name):
    page = model_page(name)
    tags = {int(number) for number in re.findall(r"\\tag\{(\d+)\}", page)}
    assert tags == set(range(1, len(tags) + 1))
    # An equation number appears in the model's file, or in a layer whose docstring refers to the page.
    files = [Path(sys.modules[MODELS[name].__module__].__file__), *(ROOT / "src" / "regard" / "layers").glob("*.py")]
    sources = [file.read_text("utf-8") for file in files]
    named: set[int] = set()
    for source in sources[:1] + [source for source in sources[1:] if f"docs/models/{name}.md" in source]:
        for first, last in re.findall(r"eq\. (\d+)(?:-(\d+))?", source):
            named |= set(range(int(first), int(last or first) + 1))
    assert named == tags


ADD_A_MODEL = ROOT / "docs" / "add-a-model.md"
LAWS = [law for name, law in vars(test_contract).items() if re.match(r"test_\d+", name)]


@pytest.fixture
def example(tmp_path, monkeypatch):
    """Add the page's model to MODELS as max_sim."""
    path = tmp_path / "max_sim.py"
    path.write_text(blocks(ADD_A_MODEL, "python")[0], "utf-8")
    spec = importlib.util.spec_from_file_location("max_sim_example", path)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    monkeypatch.setitem(MODELS, "max_sim", module.MaxSim)


@pytest.mark.usefixtures("example")
@pytest.mark.parametrize("law", LAWS, ids=[law.__name__ for law in LAWS])
def test_the_example_obeys_the_laws(law, tmp_path):
    arguments = {"name": "max_sim", "options": {}, "garbage": True, "training": True, "tmp_path": tmp_path}
    code = law.__code__ if not hasattr(law, "__wrapped__") else law.__wrapped__.__code__
    law(**{name: arguments[name] for name in code.co_varnames[: code.co_argcount]})


@pytest.mark.usefixtures("example")
@torch.no_grad()
def test_the_example_equals_its_oracle():
    names = {"np": np, "Item": Item}
    exec(blocks(ADD_A_MODEL, "python")[1], names)
    model, images, texts = made.model("max_sim"), made.images(), made.texts()
    words = model.words(texts)
    image_items = items(model.project(images.features), images.mask, images)
    text_items = items(words.vectors, words.mask, texts)
    expected = np.array([[names["score"](model, image, text) for text in text_items] for image in image_items])
    np.testing.assert_allclose(model(images, texts), expected, atol=1e-5)


@pytest.mark.usefixtures("example")
def test_the_example_recipe_can_be_read(tmp_path):
    path = tmp_path / "max-sim-f30k.toml"
    path.write_text(blocks(ADD_A_MODEL, "toml")[0], "utf-8")
    recipe = Recipe.read(path)
    assert recipe.model == "max_sim"
    assert recipe.options.dim == 1024


def test_the_citation_names_this_version():
    citation = (ROOT / "CITATION.cff").read_text("utf-8")
    assert re.search(r"^version: (.*)$", citation, re.M)[1] == __version__
    assert f'version = "{__version__}"' in (ROOT / "pyproject.toml").read_text("utf-8")
