"""On a GPU, every model scores and trains as on the CPU, and neither scoring nor a training step waits for the GPU."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch

import made
from regard.data.loader import Pairs
from regard.losses import triplet
from regard.score import score_all, score_batch
from regard.training.config import TrainConfig
from regard.training.loop import Objective

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(
        not torch.cuda.is_available(),
        reason="there is no CUDA device here: what the CPU can show is in test_contract, 9",
    ),
    pytest.mark.parametrize(("name", "options"), made.VARIANTS, ids=made.NAMES),
]
MATCHES = torch.arange(5)[:, None] == torch.tensor([0, 1, 2, 3, 4, 0, 1])
CLOSE = {"atol": 1e-8, "rtol": 1e-8}  # float64, with other orders of summation


@contextmanager
def waiting_is_an_error() -> Iterator[None]:
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_scores_gradients_and_statistics_are_those_of_the_cpu(name, options):
    found = []
    for device in ("cpu", "cuda"):
        model = made.model(name, **options).double().to(device).train()
        for module in model.modules():  # devices draw other random numbers
            if hasattr(module, "dropout") and isinstance(module.dropout, float):
                module.dropout = 0.0
        images, texts = made.images().to(torch.float64).to(device), made.texts().to(device)
        encoded, sentences = model.encode_images(images), model.encode_texts(texts)
        scores = score_batch(model, encoded, sentences, (3, 4))
        losses = model.extra_losses(encoded, sentences, scores, MATCHES)
        sum(losses.values(), triplet(scores, MATCHES, negatives="sum")).backward()
        gradients = {key: p.grad.cpu() for key, p in model.named_parameters() if p.grad is not None}
        buffers = {key: buffer.cpu() for key, buffer in model.named_buffers()}
        with torch.no_grad():
            model.eval()
            evaluated = score_all(model, model.encode_images(images), model.encode_texts(texts))
        found.append(({"training": scores.detach().cpu(), "evaluation": evaluated}, gradients, buffers))
    for on_cpu, on_cuda in zip(*found, strict=True):
        assert on_cpu.keys() == on_cuda.keys()
        for key, value in on_cpu.items():
            tolerance = made.ROUNDED if key == "evaluation" else CLOSE
            torch.testing.assert_close(on_cuda[key], value, **tolerance, msg=key)


def test_scoring_does_not_wait(name, options):
    model = made.model(name, **options).cuda()
    with torch.no_grad():
        for warm in (False, True):
            images, texts = (side.pinned().to("cuda") for side in (made.images(), made.texts()))
            encoded, sentences = model.encode_images(images), model.encode_texts(texts)
            if warm:
                with waiting_is_an_error():
                    model.score(model.for_scoring(encoded), model.for_scoring(sentences))
            else:
                model.score(model.for_scoring(encoded), model.for_scoring(sentences))


@pytest.mark.parametrize("block", [0, 3])
def test_a_training_step_does_not_wait(name, options, block):
    model = made.model(name, **options).cuda().train()
    objective = Objective(model, TrainConfig(block=block, summary_weight=0.5))
    optimizer = torch.optim.Adam(model.parameters(), fused=True)

    def step() -> None:
        pairs = Pairs(made.images(), made.texts(), MATCHES).pinned().to("cuda")
        losses = objective(pairs, "hardest").losses
        torch.stack(list(losses.values())).sum().backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 2.0)
        optimizer.step()
        optimizer.zero_grad()

    step()
    with waiting_is_an_error():
        step()
