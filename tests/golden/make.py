"""Scores and recalls that must not change by accident: `python tests/golden/make.py` writes tests/golden/*.json.

Nothing here is drawn at random: weights and inputs are sines of their places, so that the numbers depend on the models'
arithmetic alone. Run it only where scores are meant to change, and say so in CHANGELOG.md under Numbers.
"""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from regard.batch import Images, Texts
from regard.layers.encoders import GRUEncoder
from regard.matcher import Matcher
from regard.metrics import recalls
from regard.models import MODELS
from regard.words import Vocabulary
from regard.words.vocabulary import END, START

HERE = Path(__file__).parent
NUM_IMAGES, NUM_REGIONS, FEATURE_DIM = 4, 5, 12
NUM_TEXTS, NUM_WORDS, DIM, WORD_DIM = 6, 7, 16, 10
SMALL = {"tvrn": {"similarity_dim": 4}}  # widths beside `dim`: through wide sines all scores come out alike
VOCABULARY = Vocabulary.build([" ".join(f"w{number}" for number in range(20))], min_count=1)


def waves(*shape: int, start: float = 0.0) -> torch.Tensor:
    """Sines of 1.7 k + start, over the places k in order."""
    places = torch.arange(int(np.prod(shape)), dtype=torch.float64)
    return torch.sin(1.7 * places + start).reshape(shape).float()


def model(name: str) -> Matcher:
    """The model with its default settings but small, and its state filled in the order of the names."""
    words = GRUEncoder(VOCABULARY, DIM, word_dim=WORD_DIM)
    built = MODELS[name](MODELS[name].Config(dim=DIM, **SMALL.get(name, {})), FEATURE_DIM, words)
    with torch.no_grad():
        for number, (key, values) in enumerate(sorted(built.state_dict().items())):
            if not values.is_floating_point():
                continue
            wave = waves(*values.shape, start=float(number))
            if key.endswith(("running_var", "norm.weight")):
                wave = 1 + 0.5 * wave
            elif values.ndim > 1:
                wave = 2 * wave / values.shape[-1] ** 0.5
            values.copy_(wave)
    return built.eval()


def images() -> Images:
    counts = torch.tensor([NUM_REGIONS, 3, 4, 1])
    mask = torch.arange(NUM_REGIONS) < counts[:, None]
    both = mask[:, :, None] & mask[:, None, :]
    corners = (waves(NUM_IMAGES, NUM_REGIONS, 2, start=0.3) + 1) * 0.3
    sizes = (waves(NUM_IMAGES, NUM_REGIONS, 2, start=0.8) + 1.5) * 0.15
    relations = torch.arange(NUM_IMAGES * NUM_REGIONS**2).reshape(both.shape) % 7 % 4
    return Images(
        features=waves(NUM_IMAGES, NUM_REGIONS, FEATURE_DIM) * mask[..., None],
        mask=mask,
        boxes=torch.cat([corners, corners + sizes], -1) * mask[..., None],
        labels=(torch.arange(mask.numel()).reshape(mask.shape) % 9 + 1) * mask,
        relations=relations * both * ~torch.eye(NUM_REGIONS, dtype=torch.bool),
    )


def texts() -> Texts:
    """With relations of each role between words, none of <start> and <end>."""
    lengths = [NUM_WORDS, 2, 5, 1, 3, 4]
    told = VOCABULARY(
        [" ".join(f"w{(5 * text + 3 * word) % 20}" for word in range(lengths[text])) for text in range(NUM_TEXTS)]
    )
    inner = told.mask & (told.tokens != VOCABULARY.number(START)) & (told.tokens != VOCABULARY.number(END))
    both = inner[:, :, None] & inner[:, None, :] & ~torch.eye(inner.shape[1], dtype=torch.bool)
    return replace(told, relations=torch.arange(both.numel()).reshape(both.shape) % 11 % 5 * both)


def matrix() -> tuple[np.ndarray, np.ndarray]:
    """Scores of 10 images, whole numbers so that some tie, and of 30 texts: one to five an image."""
    image_of_text = np.repeat(np.arange(10), [1, 2, 3, 4, 5] * 2)
    scores = (10 * waves(10, len(image_of_text))).round().numpy()
    scores[image_of_text, np.arange(len(image_of_text))] += 7
    return scores, image_of_text


@torch.inference_mode()
def scores_now() -> dict[str, list[list[float]]]:
    return {name: model(name)(images(), texts()).tolist() for name in sorted(MODELS)}


def recalls_now() -> dict[str, dict]:
    scores, image_of_text = matrix()
    found = {protocol: recalls(scores, image_of_text, protocol) for protocol in ("full", "5fold")}
    return {protocol: {**each.to_dict(), "ties": each.ties} for protocol, each in found.items()}


if __name__ == "__main__":
    made_by = f"python tests/golden/make.py, torch {torch.__version__}"
    for name, values in (("scores", scores_now()), ("recalls", recalls_now())):
        (HERE / f"{name}.json").write_text(json.dumps({"made by": made_by, **values}, indent=1) + "\n", "utf-8")
