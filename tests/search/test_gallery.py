"""Search: a shortlist bounds what is found, and a sentence is read as a split's own are."""

import pytest
import torch

import made
from regard.data import Split
from regard.files import InputError
from regard.relations.from_sentences import parse_split
from regard.search.gallery import Gallery
from regard.training.weights import build_model
from regard.words import Vocabulary


@pytest.fixture(scope="module")
def split(tmp_path_factory):
    folder = made.folder(tmp_path_factory.mktemp("search") / "data")
    (folder / "dev_text_relations.npz").unlink()
    parse_split(folder, "dev")
    return Split.open(folder, "dev")


def index_of(split, name):
    torch.manual_seed(0)
    model = build_model(made.recipe(f"{name}-f8k"), split.feature_dim, Vocabulary.build(split.captions, 1)).eval()
    return Gallery.of_split(model, split)


@pytest.mark.parametrize("name", ["vse-infinity", "cmsei", "tvrn", "resg"])
def test_a_sentence_is_read_as_the_splits_own(split, name):
    index = index_of(split, name)
    rows = torch.arange(4)
    assert index.search_sentences([split.captions[row] for row in rows]) == index.search(
        split.texts(rows, index.model.tokenizer)
    )


@torch.no_grad()
def test_what_is_not_on_the_shortlist_is_not_found(split):
    index = index_of(split, "cmsei")
    texts = split.texts([3], index.model.tokenizer)
    best = index.model.encode_texts(texts).summary() @ index.summaries.T
    found = index.search(texts, 10, 3)[0]
    assert {hit.image for hit in found} == set(best.topk(3).indices[0].tolist())
    everything = index.search(texts, 3, None)[0]
    assert [hit.score for hit in everything] == sorted((hit.score for hit in everything), reverse=True)
    assert everything[0].score >= found[0].score - 1e-6


def test_nothing_is_refused(split):
    index = index_of(split, "scan")
    for k, shortlist in ((0, None), (3, 0)):
        with pytest.raises(InputError, match="both must be at least 1"):
            index.search_sentences(["a dog"], k, shortlist)
    assert index.search_sentences([]) == []
