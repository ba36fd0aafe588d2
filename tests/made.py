"""Small random inputs and models that the tests share."""

from typing import Any

import torch

from regard.batch import Images, Texts
from regard.layers.encoders import GRUEncoder
from regard.matcher import Matcher
from regard.models import MODELS
from regard.words import Vocabulary

FEATURE_DIM, DIM, NUM_PREDICATES = 12, 16, 5
VOCABULARY = Vocabulary.build([" ".join(f"w{i}" for i in range(40))], min_count=1)


def images(count: int = 5, regions: int = 6, seed: int = 0) -> Images:
    """Images of 1 to `regions` regions (the first has all), with boxes, labels and relations; padding is zero."""
    random = torch.Generator().manual_seed(seed)
    counts = torch.randint(1, regions + 1, (count,), generator=random)
    counts[0] = regions
    mask = torch.arange(regions) < counts[:, None]
    corners = torch.rand(count, regions, 2, 2, generator=random).sort(2).values
    boxes = corners.flatten(2) + torch.tensor([0.0, 0.0, 0.05, 0.05])
    both = mask[:, :, None] & mask[:, None, :]
    relations = torch.randint(1, NUM_PREDICATES + 1, both.shape, generator=random)
    relations = relations * (torch.rand(both.shape, generator=random) < 0.3) * both
    return Images(
        features=torch.randn(count, regions, FEATURE_DIM, generator=random) * mask[..., None],
        mask=mask,
        boxes=boxes * mask[..., None],
        labels=torch.randint(1, 9, mask.shape, generator=random) * mask,
        relations=relations,
    )


def texts(count: int = 7, words: int = 9, seed: int = 0) -> Texts:
    """Sentences of 1 to `words` words between <start> and <end> (the first has all)."""
    random = torch.Generator().manual_seed(seed + 1)
    counts = torch.randint(1, words + 1, (count,), generator=random).tolist()
    counts[0] = words
    picks = [torch.randint(0, 40, (length,), generator=random).tolist() for length in counts]
    return VOCABULARY([" ".join(f"w{word}" for word in pick) for pick in picks])


def model(name: str, seed: int = 0, **options: Any) -> Matcher:
    """A small model in eval mode whose every part does something: no scale is zero, no running mean is trivial."""
    torch.manual_seed(seed)
    built = MODELS[name](
        MODELS[name].Config(dim=DIM, **options), FEATURE_DIM, GRUEncoder(VOCABULARY, DIM, word_dim=10)
    )
    with torch.no_grad():
        for module in built.modules():
            if isinstance(module, torch.nn.BatchNorm1d):
                module.weight.uniform_(0.5, 1.5)
                module.bias.normal_(0, 0.1)
                module.running_mean.normal_(0, 0.1)
                module.running_var.uniform_(0.5, 1.5)
        for parameter in built.parameters():
            if parameter.ndim == 2 and parameter.abs().max() < 1:
                parameter.mul_(2)  # strong enough that a missing term shows
    return built.eval()


# One option of each configuration at a time, away from its default; every one must pass the laws and its oracle.
VARIANTS: list[tuple[str, dict[str, Any]]] = [
    ("vse_infinity", {}),
    ("vse_infinity", {"pooling": "mean"}),
    ("vse_infinity", {"region_mlp": False}),
    ("scan", {}),
    ("scan", {"aggregation": "lse"}),
    ("scan", {"direction": "i2t", "temperature": 4.0}),
    ("scan", {"direction": "i2t", "temperature": 4.0, "aggregation": "lse", "lse_temperature": 5.0}),
    ("scan", {"normalisation": "l2norm"}),
    ("scan", {"normalisation": "clipped"}),
    ("scan", {"normalisation": "none"}),
    ("cmsei", {}),
    ("cmsei", {"spatial": "polar"}),
    ("cmsei", {"spatial": "classes"}),
    ("cmsei", {"spatial": "full"}),
    ("cmsei", {"spatial": "none"}),
    ("cmsei", {"semantic": "weighted"}),
    ("cmsei", {"semantic": "none"}),
    ("cmsei", {"spatial": "none", "semantic": "none"}),
    ("cmsei", {"directed": True}),
    ("cmsei", {"directed": True, "num_predicates": NUM_PREDICATES}),
    ("cmsei", {"num_predicates": 2}),
    ("cmsei", {"convolution": "classic"}),
    ("cmsei", {"fusion": "sequential"}),
    ("cmsei", {"fusion": "gated"}),
    ("cmsei", {"object_word": "regions"}),
    ("cmsei", {"object_word": "words"}),
    ("cmsei", {"object_word": "none"}),
    ("cmsei", {"object_sentence": False}),
    ("cmsei", {"word_image": False}),
    ("cmsei", {"object_word": "none", "object_sentence": False, "word_image": False}),
    ("cmsei", {"gate": "sigmoid"}),
    ("cmsei", {"gate": "memory"}),
    ("cmsei", {"alignment": "regions"}),
    ("cmsei", {"alignment": "words"}),
    ("cmsei", {"global_weight": 1.0}),
    ("cmsei", {"num_layers": 1}),
]
NAMES = ["-".join([name, *(f"{key}={value}" for key, value in options.items())]) for name, options in VARIANTS]
