from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import made as small
from regard.batch import Fragments, Images
from regard.explain import Alignment, draw_alignment
from regard.explain.alignment import MatchedRelation
from regard.explain.canvas import break_lines
from regard.explain.palette import COLOURS, PLAIN, matched_regions, region_tag
from regard.explain.tag_placement import place_tag
from regard.files import InputError
from regard.matcher import Matcher
from regard.words import Vocabulary

CAPTION = "A dog chases a ball."


class Embedding(nn.Module):
    """A small text encoder: word vectors only."""

    def __init__(self, vocabulary, dim):
        super().__init__()
        self.tokenizer = vocabulary
        self.table = nn.Embedding(len(vocabulary), dim)

    def forward(self, texts):
        return Fragments(nn.functional.normalize(self.table(texts.tokens), dim=-1), texts.mask)


class Cosines(Matcher):
    """Scores the mean over words of the similarity to the best region."""

    def encode_images(self, images):
        return Fragments(images.features, images.mask)

    def encode_texts(self, texts):
        return self.words(texts)

    def align(self, images, texts):
        similarity = torch.einsum("ird,twd->itrw", images.vectors, texts.vectors)
        real = images.mask[:, None, :, None] & texts.mask[None, :, None, :]
        return similarity.masked_fill(~real, 0)

    def score(self, images, texts):
        return self.align(images, texts).amax(2).sum(2) / texts.mask.sum(1)


@pytest.fixture
def model():
    torch.manual_seed(0)
    return Cosines(None, 0, Embedding(Vocabulary.build([CAPTION], min_count=1), 8)).eval()


def one_image(model, *words):
    """Return an image whose regions are the vectors of these words, and one region of padding with other values."""
    numbers = torch.tensor([model.tokenizer.number(word) for word in words])
    vectors = nn.functional.normalize(model.words.table(numbers).detach(), dim=-1)
    return Images(
        features=torch.cat([vectors, torch.full((1, 8), 99.0)])[None].half(),
        mask=torch.tensor([[True] * len(words) + [False]]),
        boxes=torch.rand(1, len(words) + 1, 4).sort(-1).values,
        labels=torch.arange(len(words) + 1)[None],
    )


def test_each_word_matches_its_own_region(model):
    found = Alignment.of(model, one_image(model, "ball", "dog", "chases"), model.tokenizer([CAPTION]), CAPTION)
    assert found.words == ("a", "dog", "chases", "a", "ball")  # without the boundaries <start> and <end>
    assert found.weights.shape == (3, 5)
    assert found.best_regions()[[1, 2, 4]].tolist() == [1, 2, 0]


def test_score_and_weights_are_the_models(model):
    images, texts = one_image(model, "ball", "dog"), model.tokenizer([CAPTION])
    found = Alignment.of(model, images, texts, CAPTION, classes=("none", "toy"))
    encoded = model.encode_images(images.to(torch.float32)), model.encode_texts(texts)
    assert found.score == pytest.approx(model.score(*encoded).item())
    assert np.array_equal(found.weights, model.align(*encoded)[0, 0, :2, 1:-1].detach())
    assert np.array_equal(found.boxes, images.boxes[0, :2].numpy())
    assert found.labels == ("", "toy")


def test_labels_and_boxes_may_be_absent(model):
    images = one_image(model, "ball", "dog")
    bare = Images(images.features, images.mask)
    found = Alignment.of(model, bare, model.tokenizer([CAPTION]), CAPTION)
    assert found.labels == ("", "")
    assert found.boxes is None


def test_more_than_one_pair_is_refused(model):
    texts = model.tokenizer([CAPTION, CAPTION])
    with pytest.raises(InputError, match="Expected one image and one text, got 1 images and 2 texts"):
        Alignment.of(model, one_image(model, "ball"), texts, CAPTION)


def test_a_word_without_a_positive_weight_has_no_region():
    found = made(weights=[[0.0, -0.5, 0.2], [0.0, -0.1, 0.3]])
    assert found.best_regions().tolist() == [-1, -1, 1]
    assert [(each.region, each.words) for each in matched_regions(found)] == [(1, [2])]


def test_the_regions_with_the_most_weight_get_the_colours():
    weights = np.eye(12) * np.arange(1, 13)[:, None]
    found = matched_regions(made(weights))
    assert [each.region for each in found] == list(range(11, -1, -1))
    assert [each.colour for each in found] == [*COLOURS, PLAIN, PLAIN]


def test_a_tag_contains_the_three_words_with_the_most_weight_in_order():
    found = made([[0.1, 0.4, 0.3, 0.2]])
    assert region_tag(found, matched_regions(found)[0]) == "0  w1 w2 w3 …"
    small = Alignment(("the", "dog", "in", "a"), found.weights, None, ("",), 0.5)
    assert region_tag(small, matched_regions(small)[0]) == "0  dog"


def test_lines_are_no_wider_than_allowed():
    assert break_lines([3.0, 4.0, 5.0, 20.0, 1.0], 9.0) == [[(0, 0), (1, 3)], [(2, 0)], [(3, 0)], [(4, 0)]]


def test_tags_lie_in_the_frame_and_do_not_overlap():
    rng = np.random.default_rng(0)
    frame, taken = (1.0, 2.0, 7.0, 6.0), []
    for _ in range(25):
        box = np.sort(rng.uniform(size=(2, 2)), axis=0).ravel() * [6, 4, 6, 4] + [1, 2, 1, 2]
        width = rng.uniform(0.4, 1.5)
        x, y = place_tag(box, (width, 0.2), frame, taken)
        assert 1 <= x <= 7 - width
        assert 2 <= y <= 6 - 0.2
        for x1, y1, x2, y2 in taken:
            assert x >= x2 or x + width <= x1 or y >= y2 or y + 0.2 <= y1
        taken.append((x, y, x + width, y + 0.2))


def made(weights, boxes=None):
    weights = np.array(weights, np.float32)
    regions, words = weights.shape
    return Alignment(tuple(f"w{word}" for word in range(words)), weights, boxes, ("",) * regions, 0.5)


def test_the_picture_shows_the_region_in_the_colour_of_its_word(tmp_path):
    box = np.array([[0.25, 0.25, 0.75, 0.75]], np.float32)
    draw_alignment(made([[1.0]], box), tmp_path / "pair.png", photograph=Image.new("RGB", (300, 200), "#101010"))
    drawn = np.asarray(Image.open(tmp_path / "pair.png").convert("RGB")).astype(int)
    red = np.abs(drawn - [0xD1, 0x49, 0x5B]).sum(2) < 12
    rows, columns = np.flatnonzero(red[:500].any(1)), np.flatnonzero(red[:500, :750].any(0))
    # The photograph is 6 by 4 inches of 120 dots, 0.3 inches from the edges; so the box spans 216-576 and 156-396.
    assert abs(columns.min() - 216) < 6
    assert abs(columns.max() - 576) < 6
    assert abs(rows.max() - 396) < 6
    assert red[500:].sum() > 200  # the word's chip


@pytest.mark.parametrize(("regions", "words"), [(1, 1), (4, 5), (36, 25)])
@pytest.mark.parametrize("with_boxes", [True, False])
def test_pairs_of_any_size_are_drawn(tmp_path, regions, words, with_boxes):
    rng = np.random.default_rng(1)
    boxes = np.sort(rng.uniform(size=(regions, 2, 2)), axis=1).reshape(regions, 4).astype(np.float32)
    draw_alignment(made(rng.uniform(-1, 1, (regions, words)), boxes if with_boxes else None), tmp_path / "pair.png")
    with Image.open(tmp_path / "pair.png") as drawn:
        assert drawn.width > 150
        assert drawn.height > 150
    assert [path.name for path in tmp_path.iterdir()] == ["pair.png"]


def test_a_photograph_that_cannot_be_read(tmp_path):
    (tmp_path / "photo.jpg").write_text("no picture")
    with pytest.raises(InputError, match=r"The photograph .*photo.jpg cannot be read"):
        draw_alignment(made([[1.0]]), tmp_path / "pair.png", photograph=tmp_path / "photo.jpg")
    assert not (tmp_path / "pair.png").exists()


def test_a_tokenizer_without_boundaries():
    vocabulary = Vocabulary.build([CAPTION], min_count=1, boundaries=False)
    plain = Cosines(None, 0, Embedding(vocabulary, 8)).eval()
    texts = vocabulary([CAPTION])
    found = Alignment.of(plain, one_image(plain, "dog", "ball"), texts, CAPTION)
    assert found.words == ("a", "dog", "chases", "a", "ball")
    assert found.best_regions()[[1, 4]].tolist() == [0, 1]


def test_relations_of_the_sentence_are_matched_to_those_of_the_image(tmp_path):
    """ReSG matches each relation of the sentence to the most similar one of the image."""
    model, images = small.model("resg"), small.images(1)
    caption = "w3 w7 w5"
    texts = small.VOCABULARY([caption])
    relations = torch.zeros(1, 5, 5, dtype=torch.long)
    relations[0, 2, 1], relations[0, 2, 3] = 1, 2  # w7 is the predicate of w3 and w5
    texts = replace(texts, relations=relations)
    classes, predicates = ["none", *(f"class{n}" for n in range(1, 9))], ["none", *(f"does{n}" for n in range(1, 6))]
    found = Alignment.of(model, images, texts, caption, classes, predicates)
    (matched,) = found.relations
    assert matched.text_relation == ("w3", "w7", "w5")

    related = model.align_relations(model.encode_images(images), model.encode_texts(texts))
    best = related.similarity[0, 0, :, 1].argmax()  # 0 is the sentence as a whole
    subject, predicate, other = related.image_ends[0, best].tolist()
    assert matched.image_relation == (
        f"{subject} {found.labels[subject]}",
        f"does{predicate}",
        f"{other} {found.labels[other]}",
    )
    assert matched.score == pytest.approx(float(related.similarity[0, 0, best, 1].detach()))

    heights = {}
    for name, each in (("with", found), ("without", replace(found, relations=()))):
        draw_alignment(each, tmp_path / f"{name}.png")
        with Image.open(tmp_path / f"{name}.png") as picture:
            heights[name] = picture.height
    assert heights["with"] > heights["without"]
    bare = Images(**{**images.tensors(), "relations": torch.zeros_like(images.relations)})
    assert Alignment.of(model, bare, texts, caption).relations == ()


def test_a_notebook_shows_the_weights_as_a_table():
    words, labels = ("a", "<b>dog</b>", "&"), ("dog", '<script>alert("no")</script>')
    weights = np.array([[0.5, -0.2, 0.0], [0.25, 1.0, -0.1]])
    relation = MatchedRelation(("a", "<i>", "&"), ("0 dog", "near", "1"), 0.8, (0, 1))
    shown = Alignment(words, weights, None, labels, 0.25, (relation,))._repr_html_()
    page = ElementTree.fromstring(f"<body>{shown}</body>")  # well-formed only if all text is escaped
    assert page.findtext(".//caption") == "a <b>dog</b> &: score 0.250"
    assert [cell.text for cell in page.findall(".//thead//th")] == list(words)
    assert [cell.text for cell in page.findall(".//tbody//th")] == ["0 dog", f"1 {labels[1]}"]
    cells = page.findall(".//tbody//td")
    assert ["".join(cell.itertext()) for cell in cells] == ["0.50", "-0.20", "0.00", "0.25", "1.00", "-0.10"]
    assert [cell.find("b") is not None for cell in cells] == [True, False, False, False, True, False]
    strengths = [float(cell.get("style").rpartition(",")[2].rstrip(")")) for cell in cells]
    assert strengths == pytest.approx([0.35, 0, 0, 0.17, 0.7, 0], abs=0.011)  # of text in either theme: not above 0.7
    assert page.findtext(".//li") == "a –<i>→ &: 0 dog –near→ 1, 0.80"
    assert Alignment((), np.zeros((2, 0)), None, labels, 0.0)._repr_html_().count("<tr>") == 3
