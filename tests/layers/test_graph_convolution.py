import math

import numpy as np
import pytest
import torch

from regard.files import InputError
from regard.layers.graph_convolution import GraphConvolution, PolarConvolution, between_real, normalised

pytestmark = pytest.mark.usefixtures("float64")

MASK = torch.arange(5) < torch.tensor([5, 3, 1])[:, None]


def regions(padding):
    random = torch.Generator().manual_seed(0)
    vectors = torch.randn(3, 5, 8, generator=random).masked_fill(~MASK[..., None], padding)
    corners = torch.rand(3, 5, 2, 2, generator=random).sort(2).values.flatten(2)
    boxes = corners.masked_fill(~MASK[..., None], padding)
    edges = between_real(torch.rand(3, 5, 5, generator=random), MASK)
    labels = between_real(torch.randint(0, 4, (3, 5, 5), generator=random), MASK)
    return vectors, boxes, edges, labels


def layer(kind):
    torch.manual_seed(0)
    if kind == "polar":
        built = PolarConvolution(8, num_kernels=4)
    else:
        built = GraphConvolution(8, num_labels=4 if kind == "labels" else 0, classic=kind == "classic")
    if built.norm is not None:
        torch.nn.init.constant_(built.norm.weight, 0.7)
    return built


def run(built, kind, padding):
    vectors, boxes, edges, labels = regions(padding)
    inputs = {"polar": (boxes,), "labels": (edges, labels)}.get(kind, (edges,))
    return built(vectors, MASK, *inputs), vectors


@pytest.mark.parametrize("kind", ["residual", "labels", "classic", "polar"])
@pytest.mark.parametrize("training", [True, False])
def test_padding_has_no_effect(kind, training):
    outputs = [run(layer(kind).train(training), kind, padding)[0][MASK] for padding in (0.0, 50.0)]
    torch.testing.assert_close(outputs[0], outputs[1])


@pytest.mark.parametrize("kind", ["residual", "labels", "classic"])
def test_a_graph_layer_equals_a_loop_over_edges(kind):
    built = layer(kind).eval()
    output, vectors = run(built, kind, 0.0)
    _, _, edges, labels = regions(0.0)
    for image in range(3):
        for region in range(int(MASK[image].sum())):
            messages = torch.zeros(8)
            for other in range(5):
                message = built.message.weight @ vectors[image, other]
                if kind == "labels":
                    message = message + built.label.weight[labels[image, region, other]]
                messages += edges[image, region, other] * message
            if kind == "classic":
                change = messages.relu()
            else:
                norm = built.norm
                change = built.update(messages)
                change = norm.weight * (change - norm.running_mean) / (norm.running_var + norm.eps).sqrt() + norm.bias
            torch.testing.assert_close(output[image, region], vectors[image, region] + change)


def test_residual_layers_begin_as_the_identity():
    vectors, boxes, edges, _ = regions(0.0)
    assert torch.equal(GraphConvolution(8)(vectors, MASK, edges), vectors)
    assert torch.equal(PolarConvolution(8)(vectors, MASK, boxes), vectors)


def test_polar_weights_are_the_kernels_of_each_pair():
    built, boxes = layer("polar"), regions(0.0)[1]
    weights = built.weights(boxes, MASK).detach()
    torch.testing.assert_close(weights.sum(-1), MASK[:, None].expand(-1, 4, -1).double())
    assert not weights[~(MASK[:, None, :, None] & MASK[:, None, None, :]).expand_as(weights)].any()
    middle = boxes.unflatten(2, (2, 2)).mean(2).double().numpy()
    for kernel in range(4):
        distance, angle = built.distance[kernel].item(), built.angle[kernel].item()
        distance_width, angle_width = built.distance_width[kernel].item(), built.angle_width[kernel].item()
        kernels = np.zeros(5)
        for other in range(5):
            x, y = middle[0, other] - middle[0, 2]
            turn = abs(math.atan2(x, y) - angle)
            turn = min(turn, abs(2 * math.pi - turn))
            kernels[other] = math.exp(
                -0.5 * (((math.hypot(x, y) - distance) / distance_width) ** 2 + (turn / angle_width) ** 2)
            )
        np.testing.assert_allclose(weights[0, kernel, 2], kernels / kernels.sum(), atol=1e-10)


def test_far_apart_boxes_do_not_underflow():
    """If all neighbours are far from a narrow kernel, the nearest one gets the weight, instead of 0 / 0."""
    built = layer("polar")
    with torch.no_grad():
        built.distance_width.fill_(1e-3)
        built.distance.fill_(30.0)
    vectors, boxes, _, _ = regions(0.0)
    out = built(vectors.requires_grad_(), MASK, boxes)
    out.sum().backward()
    assert out.isfinite().all()
    assert vectors.grad.isfinite().all()


def test_edges_sum_to_one_where_there_are_any():
    edges = torch.tensor([[[1.0, 1.0, 2.0], [0.0, 0.0, 0.0], [0.0, 3.0, 0.0]]])
    expected = torch.tensor([[[0.25, 0.25, 0.5], [0.0, 0.0, 0.0], [0.0, 1.0, 0.0]]])
    assert torch.equal(normalised(edges), expected)


def test_kernels_that_do_not_divide_the_width_are_refused():
    with pytest.raises(InputError, match="dim 10 is not a multiple of num_kernels 4"):
        PolarConvolution(10, num_kernels=4)
