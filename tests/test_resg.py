"""The losses of ReSG against plain loops, and its relation nodes."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import made
from regard.batch import Images, Texts
from regard.files import InputError
from regard.models.resg import centers, margin

MATCHES = torch.tensor([[1, 1, 0, 0, 0], [0, 0, 1, 0, 0], [0, 0, 0, 1, 1]]).bool()


@pytest.fixture
def vectors():
    random = torch.Generator().manual_seed(3)
    made_ = (torch.randn(count, 4, generator=random, dtype=torch.float64) for count in MATCHES.shape)
    return [torch.nn.functional.normalize(some, dim=1) for some in made_]


def unit(vector):
    return vector / np.linalg.norm(vector)


def distance(a, b):
    return float(((a - b) ** 2).sum())


def test_the_ranking_center_hinge(vectors):
    images, texts = (some.numpy() for some in vectors)
    middle = [unit((images[i] + texts[MATCHES[i]].sum(0)) / (1 + int(MATCHES[i].sum()))) for i in range(3)]
    expected = 0.0
    for i, t in MATCHES.nonzero().tolist():
        for vector in (images[i], texts[t]):
            nearest = min(distance(vector, middle[j]) for j in range(3) if j != i)
            expected += max(0.0, distance(vector, middle[i]) + 0.2 - nearest)
    assert expected > 0.1
    assert float(centers(*vectors, MATCHES, made.model("resg").config)) == pytest.approx(expected)


def test_the_pulling_center_hinge(vectors):
    images, texts = (some.numpy() for some in vectors)
    config = made.model("resg", center="pull", center_margin=0.1).config
    expected = sum(
        max(0.0, distance(images[i], texts[MATCHES[i]].mean(0)) - 0.1) for i, _ in MATCHES.nonzero().tolist()
    )
    assert expected > 0.1
    assert float(centers(*vectors, MATCHES, config)) == pytest.approx(expected)


def test_one_image_has_no_other_center(vectors):
    matches = torch.ones(1, 5).bool()
    loss = centers(vectors[0][:1].requires_grad_(), vectors[1], matches, made.model("resg").config)
    loss.backward()
    assert float(loss.detach()) == 0


def test_fixed_centers_have_no_gradient(vectors):
    """If centers are fixed, the gradient moves only the vectors; otherwise it also moves their centers."""
    gradients = []
    for fixed in (False, True):
        images, texts = (some.clone().requires_grad_() for some in vectors)
        centers(images, texts, MATCHES, made.model("resg", center_fixed=fixed).config).backward()
        gradients.append(texts.grad)
    assert (gradients[0] - gradients[1]).abs().max() > 1e-3


def test_the_margin_counts_other_sentences_of_an_image_as_positive():
    scores = torch.tensor([[0.9, 0.3, 0.5, 0.1, 0.2], [0.1, 0.35, 0.45, 0.6, 0.0], [0.2, 0.1, 0.0, 0.55, 0.48]])
    positive = [max(0.0, 0.5 - s) for s in (0.9, 0.3, 0.45, 0.55, 0.48)]
    negative = [max(0.0, s - 0.3) for s in (0.5, 0.1, 0.2, 0.1, 0.35, 0.6, 0.0, 0.2, 0.1, 0.0)]
    expected = sum(positive) + 5 * sum(negative) / len(negative)
    assert float(margin(scores, MATCHES, 0.4, 0.1)) == pytest.approx(expected)


def test_a_learnt_middle_converges_within_the_scores():
    middle = torch.tensor(-0.5, requires_grad=True)
    scores = torch.linspace(-0.2, 0.6, 15).reshape(3, 5)
    for _ in range(400):
        (gradient,) = torch.autograd.grad(margin(scores, MATCHES, middle, 0.1), middle)
        middle.data -= 0.01 * gradient
    assert 0 < float(middle.detach()) < 0.5


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({}, {"center", "margin"}),
        ({"center": "none"}, {"margin"}),
        ({"margin": "none"}, {"center"}),
        ({"center": "none", "margin": "none"}, set()),
        ({"center": "pull", "margin": "fixed"}, {"center", "margin"}),
    ],
)
def test_each_loss_can_be_switched_off(options, names):
    model, matches = made.model("resg", **options), torch.eye(5, 7).bool()
    images, texts = model.encode_images(made.images()), model.encode_texts(made.texts())
    losses = model.extra_losses(images, texts, model.score(images, texts), matches)
    assert losses.keys() == names
    assert all(float(loss.detach()) > 0 for loss in losses.values())
    assert (model.middle is not None) == (options.get("margin", "learnt") == "learnt")


@pytest.mark.parametrize("kind", ["center", "margin"])
def test_losses_are_weighted(kind):
    losses = []
    for weight in (1.0, 0.5):
        model = made.model("resg", **{f"{kind}_weight": weight})
        images, texts = model.encode_images(made.images()), model.encode_texts(made.texts())
        matches = torch.eye(5, 7).bool()
        losses.append(float(model.extra_losses(images, texts, model.score(images, texts), matches)[kind].detach()))
    assert losses[1] == pytest.approx(losses[0] / 2)


@torch.no_grad()
def test_relations_align_with_their_ends():
    model, images, texts = made.model("resg"), made.images(), made.texts()
    image_graphs, text_graphs = model.encode_images(images), model.encode_texts(texts)
    alignment = model.align_relations(image_graphs, text_graphs)
    assert alignment.similarity.shape == (5, 7, image_graphs.relation_mask.shape[1], text_graphs.relation_mask.shape[1])
    real = alignment.image_mask[:, None, :, None] & alignment.text_mask[None, :, None, :]
    assert (alignment.similarity[~real] == 0).all()
    for image in range(5):
        ends = alignment.image_ends[image, alignment.image_mask[image]].tolist()
        expected = images.relations[image].nonzero().tolist()
        assert sorted((s, o) for s, _, o in ends) == sorted(map(tuple, expected))
        assert all(int(images.relations[image, s, o]) == predicate for s, predicate, o in ends)
    for text in range(7):
        ends = alignment.text_ends[text, alignment.text_mask[text]].tolist()
        assert ends[0] == [-1, -1, -1]
        for s, p, o in ends[1:]:
            assert s == -1 or int(texts.relations[text, p, s]) == 1
            assert o == -1 or int(texts.relations[text, p, o]) == 2
            assert (s, o) != (-1, -1)
    assert made.model("resg", relations="none").align_relations(image_graphs, text_graphs) is None


@torch.no_grad()
def test_the_order_of_subject_and_object_matters_on_both_sides():
    model, images, texts = made.model("resg"), made.images(), made.texts()
    turned = Images(**{**images.tensors(), "relations": images.relations.mT})
    swapped = torch.tensor([0, 2, 1, 3, 4])[texts.relations]
    scores = model(images, texts)
    assert (model(turned, texts) - scores).abs().max() > 1e-3
    assert (model(images, Texts(texts.tokens, texts.mask, relations=swapped)) - scores).abs().max() > 1e-3


def test_an_absent_input_is_named():
    model, images, texts = made.model("resg"), made.images(), made.texts()
    assert model.needs() == {"boxes", "relations", "roles"}
    assert made.model("resg", relations="none", concepts="labels").needs() == {"labels"}
    assert made.model("resg", relations="inferred").needs() == {"boxes", "roles"}
    with pytest.raises(InputError, match="ReSG as configured needs boxes, which these Images do not have"):
        model.encode_images(Images(images.features, images.mask, relations=images.relations))
    with pytest.raises(InputError, match="ReSG as configured needs relations, which these Texts do not have"):
        model.encode_texts(Texts(texts.tokens, texts.mask))
    with pytest.raises(InputError, match="dim 16 is not a multiple of num_heads 3: change either"):
        made.model("resg", num_heads=3)


def crowded(regions=24):
    """An image of many regions in which equal ones occur, and each relation has its reverse, as geometric ones do."""
    image = made.images(1, regions)
    random = torch.Generator().manual_seed(2)
    related = torch.rand(regions, regions, generator=random).triu(1) > 0.7
    relations = (related.int() + 2 * related.T.int())[None].long()
    features = image.features.clone()
    features[:, ::3] = features[:, :1]
    assert related.sum() * 2 > made.model("resg").config.num_relations
    return replace(image, features=features, relations=relations)


@pytest.mark.parametrize("relations", ["file", "inferred"])
@pytest.mark.parametrize("precision", ["float64", "bfloat16"])
@torch.no_grad()
def test_which_of_equal_relations_and_neighbours_are_kept_does_not_depend_on_the_padding(relations, precision):
    model, image, texts = made.model("resg", relations=relations).double(), crowded().to(torch.float64), made.texts()
    if precision == "bfloat16":
        model, image = model.float(), image.to(torch.float32)
    padded = Images.cat([image, made.images(1, 29).to(image.features.dtype)])[:1]
    assert padded.mask.shape[1] == 29
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
        graphs = [model.encode_images(each) for each in (image, padded)]
        before, after = (model.score(graph, model.encode_texts(texts)) for graph in graphs)
    for graph in graphs:
        assert torch.equal(graph.ends[graph.relation_mask], graphs[0].ends[graphs[0].relation_mask])
    tolerance = 1e-10 if precision == "float64" else 5e-3
    torch.testing.assert_close(after, before, atol=tolerance, rtol=0, check_dtype=False)


@torch.no_grad()
def test_which_of_two_opposite_relations_is_kept_does_not_depend_on_the_order_of_regions():
    model, image, texts = made.model("resg").double(), crowded().to(torch.float64), made.texts()
    image = replace(image, features=made.images(1, 24).features.double())  # no two equal regions
    order = torch.randperm(24, generator=torch.Generator().manual_seed(0))
    moved = {name: values[:, order] for name, values in image.tensors().items()}
    moved["relations"] = moved["relations"][:, :, order]
    torch.testing.assert_close(model(Images(**moved), texts), model(image, texts), **made.EXACT)
