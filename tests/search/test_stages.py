"""First stages: embedding models, vectors of one's own, and their fusion with a run."""

import numpy as np
import pytest
import torch
from PIL import Image

import made
from regard.encode import encode
from regard.evaluation.evaluate import scores_of
from regard.evaluation.fusion import Fusion
from regard.extract.extraction import extract
from regard.files import InputError
from regard.metrics import recalls
from regard.score import score_all
from regard.search.embedding import OwnVectors
from regard.search.encoder import Encoder, RunShortlist
from regard.search.index import Index
from regard.search.stages import encoder_named
from regard.training.trained_run import TrainedRun


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    return made.embedding_models(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    return made.photographs(tmp_path_factory.mktemp("photographs"))


@pytest.mark.parametrize("kind", ["CLIP", "Siglip"])
def test_an_embedding_alone_ranks_photographs_as_the_model_does(models, photographs, tmp_path, kind):
    import transformers

    extract(photographs, tmp_path / "data", {"regions": 4})
    index = Index.create(tmp_path / "index", encoder_named(str(models / kind)))
    index.add(tmp_path / "data")
    sentences = ["a red thing", "blue blue thing a"]
    model = transformers.AutoModel.from_pretrained(models / kind).eval()
    processor = transformers.AutoImageProcessor.from_pretrained(models / kind)
    tokenizer = transformers.AutoTokenizer.from_pretrained(models / kind)
    pictures = [Image.open(photographs / f"{number}.png") for number in range(6)]
    padding = {"padding": "max_length", "max_length": 12} if kind == "Siglip" else {"padding": True}
    with torch.no_grad():
        images = model.get_image_features(**processor(images=pictures, return_tensors="pt"))
        texts = model.get_text_features(**tokenizer(sentences, return_tensors="pt", **padding))
    images, texts = (getattr(side, "pooler_output", side) for side in (images, texts))
    cosines = torch.nn.functional.cosine_similarity(texts[:, None], images[None], dim=2)
    for row, answer in enumerate(Index(index.folder).search(sentences, k=6)):
        found = {hit.id: hit.score for hit in answer.hits}
        assert found == pytest.approx({f"{n}.png": float(cosines[row, n]) for n in range(6)}, abs=1e-5)
        assert answer.shortlist == 0
    with pytest.raises(InputError, match="nothing to explain"):
        index.explain("0.png", "a red thing")


def test_what_is_no_embedding_model_is_refused(models, collection, tmp_path):
    with pytest.raises(InputError, match="has no photograph of"):
        Index.create(tmp_path / "index", encoder_named(str(models / "CLIP"))).add(collection / "data")
    with pytest.raises(InputError, match="is not a folder here"):
        encoder_named(str(tmp_path / "nothing"))


def test_a_fusion_is_the_weighted_sum_of_standard_scores(collection, tmp_path):
    first = RunShortlist([TrainedRun(collection / "vse")])
    encoder = encoder_named(str(collection / "cmsei"), [str(collection / "vse")])
    index = Index.create(tmp_path / "index", encoder)
    index.add(collection / "data", split="dev")
    run, split = TrainedRun(collection / "cmsei"), TrainedRun(collection / "cmsei").open_split("dev")
    matrices = [scores_of(model, split).numpy() for model in (first.runs[0].model, run.model)]
    fusion = Fusion.fit(matrices, split.image_of_text)
    for name, values in fusion.to_dict().items():
        assert encoder.fusion.to_dict()[name] == pytest.approx(values, rel=1e-5)
    with torch.no_grad():
        images, texts = encode(run.model, split)
        exact = score_all(run.model, images.to(torch.float16), texts).numpy()
    expected = fusion.combine([matrices[0], exact])
    opened = Index(index.folder)
    assert opened.fingerprint == index.fingerprint != run.fingerprint
    for text in (0, 7):
        answer = opened.search([split.captions[text]], k=12, shortlist=0)[0]
        found = {hit.id: hit.score for hit in answer.hits}
        # The sentences of the data are parsed differently from those of queries, which CMSEI does not read.
        assert found == pytest.approx(dict(zip(split.ids, expected[:, text].tolist(), strict=True)), abs=2e-3)
        for hit in answer.hits:
            assert hit.parts.keys() == {"first stage", "second stage"}
            assert sum(hit.parts.values()) == pytest.approx(hit.score, abs=1e-5)


def test_the_best_weights_are_those_of_validation():
    random = np.random.default_rng(0)
    image_of_text = np.arange(30).repeat(2)
    truth = (np.arange(30)[:, None] == image_of_text).astype(float)
    matrices = [5 * truth + random.normal(size=truth.shape) * noise for noise in (2, 3)]
    fusion = Fusion.fit(matrices, image_of_text)
    best = recalls(fusion.combine(matrices), image_of_text).rsum
    for share in np.linspace(0, 1, 21):
        other = Fusion(fusion.means, fusion.deviations, (1 - share, share))
        assert recalls(other.combine(matrices), image_of_text).rsum <= best
    assert sum(fusion.weights) == pytest.approx(1)
    assert Fusion.of_dict(fusion.to_dict()) == fusion
    doubled = [10 * matrix + 3 for matrix in matrices]
    np.testing.assert_allclose(Fusion.fit(doubled, image_of_text).combine(doubled), fusion.combine(matrices), atol=1e-9)
    for wrong, reason in (([matrices[0], matrices[1][:5]], "shapes"), ([matrices[0], 0 * matrices[0]], "are equal")):
        with pytest.raises(InputError, match=reason):
            Fusion.fit(wrong, image_of_text)


def test_vectors_of_ones_own(collection, tmp_path):
    random = np.random.default_rng(0)
    ids = [f"{split}{row}" for split in ("train", "dev") for row in range(12)]
    vectors = {name: random.normal(size=4) for name in ids}
    own = OwnVectors(vectors, lambda sentences: np.array([[len(text), 1, 0, -1] for text in sentences]), "mine 1")
    index = Index.create(tmp_path / "index", Encoder(None, own))
    index.add(collection / "data")
    best = max(ids, key=lambda name: vectors[name] @ [2, 1, 0, -1])
    assert Index(index.folder, first=own).search(["ab"], k=1)[0].hits[0].id == best
    with pytest.raises(InputError, match="first="):
        Index(index.folder)
    other = OwnVectors(vectors, lambda sentences: np.zeros((len(sentences), 4)), "mine 2")
    with pytest.raises(InputError, match="the model has changed"):
        Index(index.folder, first=other)
    made.folder(tmp_path / "more", seed=2)
    opened = Index(index.folder, first=OwnVectors({"train3": vectors["train3"]}, own.encode_texts, "mine 1"))
    with pytest.raises(InputError, match=r"11 pictures of .* have no vector, such as train0"):
        opened.add(tmp_path / "more", prefix="other/")


def test_an_encoder_requires_a_stage():
    with pytest.raises(InputError, match="a run or an embedding model"):
        Encoder(None)
