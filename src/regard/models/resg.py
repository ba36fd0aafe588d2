"""ReSG: Learning Relationship-Enhanced Semantic Graph for Fine-Grained Image-Text Matching. Liu et al. IEEE T-CYB 2024.

A reconstruction from the abstract; the paper's text, code and settings were not available. The abstract names the
mechanisms: a graph of semantic concepts and their relations on each side (VReG, TReG), nodes that attend to their
context, matching node by node, and, beside the triplet loss, a center hinge and a positive-negative margin. The
equations are rebuilt from the most similar published model, SGM (Wang et al., WACV 2020), and each choice is an option.
Equation numbers are those of docs/models/resg.md.

Needs: boxes and roles (if relations are nodes); relations (`relations="file"`); labels (`concepts="labels"`).

Differences from SGM
- a relation has no feature of its union box, which common feature files do not have; its ends and their geometry
  replace it;
- if regions have no labels, concepts can be inferred; if there is no scene graph, related pairs can be inferred;
- objects attend to their context too; SGM maps each object separately;
- the node of the sentence is the mean of its words, for any text encoder.
"""

from dataclasses import dataclass, replace
from functools import reduce
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from regard.batch import Fragments, Images, Texts, extent, host, on_both, to_device
from regard.boxes import iou
from regard.layers.attention import SelfAttention, similarities
from regard.layers.graph_convolution import between_real
from regard.layers.pooling import mean_pool, unit
from regard.matcher import Matcher, RelationAlignment
from regard.runtime import inner, wide
from regard.words import ROLES

SUBJECT, OBJECT = ROLES.index("subject"), ROLES.index("object")
Direction = Literal["t2i", "i2t", "both"]


@dataclass(frozen=True)
class ReSGGraph(Fragments):
    """Concepts or words (`vectors`) and the relations between them, all of unit length, and one vector of the whole."""

    relations: Float[Tensor, "item relation dim"]
    relation_mask: Bool[Tensor, "item relation"]
    ends: Int[Tensor, "item relation 3"]  # subject, predicate, object; see RelationAlignment
    pooled: Float[Tensor, "item dim"] | None = None  # None if neither the score nor a loss reads it

    def relation_nodes(self) -> Fragments:
        """Return the relations as fragments."""
        return Fragments(self.relations, self.relation_mask)

    def trimmed(self) -> "ReSGGraph":
        """Return the batch without the trailing positions, also of relations, that are padding in every item."""
        kept = super().trimmed()
        last = int(extent(host(self.relation_mask)).amax()) if len(self) else 0
        parts = (kept.relations, kept.relation_mask, kept.ends)
        relations, mask, ends = (on_both(lambda t: t[:, :last], part) for part in parts)
        return replace(kept, relations=relations, relation_mask=mask, ends=ends)


class ReSG(Matcher):
    image_encoding, text_encoding = ReSGGraph, ReSGGraph

    @dataclass(frozen=True, kw_only=True)
    class Config:
        dim: int = 1024
        # Nodes
        image_graph: bool = True  # VReG; False: regions only
        text_graph: bool = True  # TReG; False: words only
        concepts: Literal["inferred", "labels", "none"] = "inferred"  # added to a region's appearance
        num_concepts: int = 1000  # that `inferred` chooses from
        num_labels: int = 1600  # of the detector; later labels share the last embedding
        concept_temperature: float = 1.0
        relations: Literal["file", "inferred", "none"] = "file"
        num_relations: int = 25  # per image, at most
        num_predicates: int = 50  # in the file (later ones share the last), or for `inferred` to choose from
        # Context
        num_layers: int = 2
        num_heads: int = 4
        affine_neighbours: int = 8  # most similar regions that a region attends to, beside its relations
        order_edges: bool = True  # each word attends to its neighbours
        # The score
        direction: Direction = "t2i"
        relation_weight: float = 1.0
        global_weight: float = 0.0
        # Losses beside the triplet loss
        center: Literal["rank", "pull", "none"] = "rank"
        center_weight: float = 1.0
        center_margin: float = 0.2  # for `rank`; for `pull`, the authors of SGM use 0.1
        center_fixed: bool = False  # no gradient through the centers
        margin: Literal["learnt", "fixed", "none"] = "learnt"
        margin_weight: float = 1.0
        margin_middle: float = 0.4  # between positive and negative pairs, for scores from -1 to 1
        margin_width: float = 0.1  # on either side of the middle

    def __init__(self, config: Config, feature_dim: int, words: nn.Module) -> None:
        super().__init__(config, feature_dim, words)
        dim = config.dim
        self.related = config.relations != "none" and config.image_graph and config.text_graph
        self.project = nn.Linear(feature_dim, dim)
        self.concepts = self.objects = self.pictured = self.told = self.image_context = self.text_context = None
        if config.image_graph:
            self.concepts = Concepts(config, feature_dim, words) if config.concepts != "none" else None
            self.objects = nn.Linear(dim, dim)
            self.image_context = Context(dim, config.num_layers, config.num_heads)
        if config.text_graph:
            self.text_context = Context(dim, config.num_layers, config.num_heads)
        if self.related:
            self.pictured = ImageRelations(config, feature_dim)
            self.told = nn.GRU(dim, dim, batch_first=True, bidirectional=True)
        kinds = 2 if self.related else 1  # of nodes
        self.pool_image = self.pool_text = None
        if config.center != "none" or config.global_weight:
            self.pool_image, self.pool_text = nn.Linear(kinds * dim, dim), nn.Linear(kinds * dim, dim)
        self.middle = nn.Parameter(torch.tensor(config.margin_middle)) if config.margin == "learnt" else None

    def needs(self) -> frozenset[str]:
        labels = {"labels"} if self.config.image_graph and self.config.concepts == "labels" else set()
        relations = {"relations"} if self.config.relations == "file" else set()
        return frozenset(labels | ({"boxes", "roles"} | relations if self.related else set()))

    def encode_images(self, images: Images) -> ReSGGraph:
        names, read = ("labels", "boxes", "relations"), self.needs()
        labels, boxes, relations = (self.required(images, n) if n in read else None for n in names)
        mask, objects = images.mask, self.project(images.features)
        if self.objects is None or self.image_context is None:
            return self._graph(Fragments(_masked(unit(objects), mask), mask), None, self.pool_image)
        if self.concepts is not None:
            objects = objects + self.concepts(images.features, labels)
        objects = _masked(objects.relu(), mask)  # eq. 2
        affinity = inner(unit(objects), unit(objects))
        affinity = (affinity + affinity.mT) / 2  # both orders of a pair are rounded alike, and tie
        near = _most_similar(affinity, mask, self.config.affine_neighbours)
        related = None
        if self.pictured is not None and boxes is not None:
            related = self.pictured(images, objects, affinity, boxes, relations)  # eq. 3-5
        nodes = Fragments(self.objects(objects).tanh(), mask)  # eq. 5
        return self._graph(self.image_context(nodes, near, related), related, self.pool_image)  # eq. 6

    def encode_texts(self, texts: Texts) -> ReSGGraph:
        words = self.words(texts)
        words = Fragments(unit(words.vectors), words.mask)  # eq. 7
        if self.text_context is None:
            return self._graph(words, None, self.pool_text)
        # Neighbours are next to each other among the real words: the mask may have holes.
        position = words.mask.cumsum(1)
        near, related = (position[:, :, None] - position[:, None]).abs() == 1, None
        if not self.config.order_edges:
            near = torch.zeros_like(near)
        if self.told is not None:
            width = words.mask.shape[1]
            roles = on_both(lambda t: t[:, :width, :width], self.required(texts, "relations"))
            roles = on_both(between_real, roles, words.mask)
            related = text_relations(self.told, words, host(roles))  # eq. 8
            near = near | (roles > 0) | (roles > 0).mT
        return self._graph(self.text_context(words, near, related), related, self.pool_text)  # eq. 6

    def score(self, images: ReSGGraph, texts: ReSGGraph) -> Float[Tensor, "image text"]:
        return reduce(torch.add, self.score_parts(images, texts).values())  # eq. 10

    def score_parts(self, images: ReSGGraph, texts: ReSGGraph) -> dict[str, Float[Tensor, "image text"]]:
        """Return the matches of regions and words, those of relations, and the weighted cosine of the whole graphs."""
        parts = {"local": best_matches(images, texts, self.config.direction)}  # eq. 9
        if self.related:
            of_relations = best_matches(images.relation_nodes(), texts.relation_nodes(), self.config.direction)  # eq. 9
            parts["relations"] = self.config.relation_weight * of_relations
        if self.config.global_weight and images.pooled is not None and texts.pooled is not None:
            parts["global"] = self.config.global_weight * inner(images.pooled, texts.pooled)
        return parts

    def align(self, images: ReSGGraph, texts: ReSGGraph) -> Float[Tensor, "image text region word"]:
        """Return the cosine of each region's concept and each word. The score takes the largest of these."""
        return similarities(images, texts).permute(0, 3, 1, 2)

    def align_relations(self, images: ReSGGraph, texts: ReSGGraph) -> RelationAlignment | None:
        if not self.related:
            return None
        cosine = similarities(images.relation_nodes(), texts.relation_nodes()).permute(0, 3, 1, 2)
        return RelationAlignment(cosine, images.ends, images.relation_mask, texts.ends, texts.relation_mask)

    def extra_losses(
        self,
        images: ReSGGraph,
        texts: ReSGGraph,
        scores: Float[Tensor, "image text"],
        matches: Bool[Tensor, "image text"],
    ) -> dict[str, Tensor]:
        config, losses = self.config, {}
        if config.center != "none" and images.pooled is not None and texts.pooled is not None:
            center = centers(images.pooled, texts.pooled, matches, config)
            losses["center"] = config.center_weight * center
        if config.margin != "none":
            middle = config.margin_middle if self.middle is None else self.middle
            parts = 1 + config.relation_weight * self.related + config.global_weight
            losses["margin"] = config.margin_weight * margin(scores / parts, matches, middle, config.margin_width)
        return losses

    def _graph(self, nodes: Fragments, relations: "ReSGRelations | None", pool: nn.Linear | None) -> ReSGGraph:
        """The encoding of nodes: first the regions or words, then the relations."""
        vectors, mask, width = _masked(unit(nodes.vectors), nodes.mask), nodes.mask, nodes.mask.shape[1]
        if relations is None:
            ends = mask.new_zeros(len(mask), 0, 3, dtype=torch.long)
            pooled = unit(pool(mean_pool(Fragments(vectors, mask)))) if pool else None  # eq. 11
            return ReSGGraph(vectors, mask, vectors[:, :0], on_both(lambda t: t[:, :0], mask), ends, pooled)
        width -= relations.mask.shape[1]
        first = Fragments(vectors[:, :width], on_both(lambda t: t[:, :width], mask))
        rest = Fragments(vectors[:, width:], on_both(lambda t: t[:, width:], mask))
        pooled = unit(pool(torch.cat([mean_pool(first), mean_pool(rest)], -1))) if pool else None  # eq. 11
        return ReSGGraph(first.vectors, first.mask, rest.vectors, rest.mask, relations.ends, pooled)


@dataclass(frozen=True)
class ReSGRelations(Fragments):
    """The relation nodes of each item, before they attend to their context."""

    ends: Int[Tensor, "item fragment 3"]
    members: Bool[Tensor, "item fragment member"]  # the regions or words of each relation


class Concepts(nn.Module):
    """The concept of each region, as a vector that is added to the region's appearance (eq. 1-2)."""

    def __init__(self, config: ReSG.Config, feature_dim: int, words: nn.Module) -> None:
        super().__init__()
        known = getattr(words, "embedding", None)
        width = config.dim if known is None else known.embedding_dim
        self.temperature = config.concept_temperature
        self.bank = self.guess = self.labels = None
        if config.concepts == "labels":
            self.labels = nn.Embedding(config.num_labels + 1, width, padding_idx=0)
        else:
            # With a vocabulary, start from its most frequent words, which follow the four special tokens.
            start = torch.randn(config.num_concepts, width) * 0.1
            if known is not None:
                start = known.weight.detach()[4 : 4 + config.num_concepts].clone()
            self.bank = nn.Parameter(start)
            self.guess = nn.Linear(feature_dim, width, bias=False)
        self.map = nn.Linear(width, config.dim, bias=False)

    def forward(
        self, features: Float[Tensor, "image region feature"], labels: Int[Tensor, "image region"] | None
    ) -> Float[Tensor, "image region dim"]:
        if self.labels is not None and labels is not None:
            return self.map(self.labels(labels.clamp(max=self.labels.num_embeddings - 1)))
        assert self.bank is not None
        assert self.guess is not None
        probability = (self.guess(features) @ self.bank.T / self.temperature).softmax(-1)  # eq. 1
        return probability @ self.map(self.bank)


class ImageRelations(nn.Module):
    """The relation nodes of each image: a map of subject, predicate and object, in this order (eq. 3-5)."""

    def __init__(self, config: ReSG.Config, feature_dim: int) -> None:
        super().__init__()
        dim = config.dim
        self.inferred, self.limit = config.relations == "inferred", config.num_relations
        self.subject, self.object = (nn.Linear(feature_dim, dim, bias=False) for _ in range(2))
        self.geometry = nn.Linear(7, dim)
        self.predicates = nn.Embedding(config.num_predicates + (not self.inferred), dim)
        self.order = nn.Linear(3 * dim, dim)

    def forward(
        self, images: Images, objects: Tensor, affinity: Tensor, boxes: Tensor, relations: Tensor | None
    ) -> ReSGRelations:
        ends, mask = self._pairs(affinity, images.mask, boxes, relations)
        s, o = ends[..., 0], ends[..., 2]
        union = _at(self.subject(images.features), s) + _at(self.object(images.features), o)
        union = union + self.geometry(geometry(_at(boxes, s), _at(boxes, o)))  # eq. 3
        if self.inferred:
            predicate = (union @ self.predicates.weight.T).softmax(-1) @ self.predicates.weight  # eq. 1
        else:
            predicate = self.predicates(ends[..., 1].clamp(max=self.predicates.num_embeddings - 1))
        relation = (union + predicate).relu()  # eq. 4
        triple = self.order(torch.cat([_at(objects, s), relation, _at(objects, o)], -1)).tanh()  # eq. 5
        members = F.one_hot(s, images.mask.shape[1]).bool() | F.one_hot(o, images.mask.shape[1]).bool()
        return ReSGRelations(_masked(triple, mask), mask, ends, members & mask[..., None])

    def _pairs(
        self, affinity: Tensor, mask: Tensor, boxes: Tensor, relations: Tensor | None
    ) -> tuple[Int[Tensor, "image relation 3"], Bool[Tensor, "image relation"]]:
        """(subject, predicate, object) of at most `limit` relations per image: those whose ends are most similar.

        Both orders of a pair of regions tie: the one with the smaller predicate comes first. If relations are inferred,
        they are the pairs of regions with the highest sum of cosine and IoU, in both orders.
        """
        width = mask.shape[1]
        # Computed on the CPU: which pairs there are, and from that the number of relations of each image.
        if relations is None:
            pairs = between_real(torch.ones(len(mask), width, width, dtype=torch.bool).triu(1), host(mask))
            rank, limit = affinity + iou(boxes), self.limit // 2
        else:
            pairs, rank, limit = between_real(host(relations), host(mask)) > 0, affinity, self.limit
        counts = pairs.flatten(1).sum(1).clamp(max=limit)
        most = max(1, int(counts.max()))
        real = to_device(torch.arange(most) < counts[:, None], mask.device)
        unrelated = to_device(~pairs, mask.device)
        labels = (~unrelated).long() if relations is None else relations
        order = labels.flatten(1).argsort(dim=1, stable=True)
        rank = rank.masked_fill(unrelated, float("-inf")).flatten(1).gather(1, order)
        position = order.gather(1, _largest(rank, most)).masked_fill(~real, 0)
        first, second = position // width, position % width
        if relations is None:
            first, second = torch.cat([first, second], 1), torch.cat([second, first], 1)
            return torch.stack([first, torch.zeros_like(first), second], -1), on_both(lambda t: t.repeat(1, 2), real)
        predicate = relations.flatten(1).gather(1, position)
        return torch.stack([first, predicate, second], -1), real


class Context(nn.Module):
    """Layers of self-attention in which each node attends to its neighbours in a graph (eq. 6)."""

    def __init__(self, dim: int, num_layers: int, num_heads: int) -> None:
        super().__init__()
        self.attend = nn.ModuleList(SelfAttention(dim, num_heads) for _ in range(num_layers))
        self.norm = nn.ModuleList(nn.LayerNorm(dim) for _ in range(num_layers))

    def forward(
        self, items: Fragments, near: Bool[Tensor, "item fragment other"], relations: ReSGRelations | None
    ) -> Fragments:
        """Return the regions or words, followed by the relations, after all layers.

        A region or word attends to itself, to those `near` it, and to the relations that it is a member of. A relation
        attends to itself and to its members.
        """
        vectors, mask = items.vectors, items.mask
        if relations is not None:
            vectors = torch.cat([vectors, relations.vectors], 1)
            mask = on_both(lambda *masks: torch.cat(masks, 1), mask, relations.mask)
            unrelated = near.new_zeros(len(near), relations.mask.shape[1], relations.mask.shape[1])
            upper, lower = torch.cat([near, relations.members.mT], 2), torch.cat([relations.members, unrelated], 2)
            near = torch.cat([upper, lower], 1)
        edges = near & mask[:, None, :] | torch.eye(mask.shape[1], dtype=torch.bool, device=mask.device)
        for attend, norm in zip(self.attend, self.norm, strict=True):
            vectors = norm(vectors + attend.attend(vectors, edges))  # type: ignore[operator]  # lists forget types
        return Fragments(_masked(vectors, mask), mask)


def text_relations(gru: nn.GRU, words: Fragments, roles: Int[Tensor, "text word word"]) -> ReSGRelations:
    """Return the relation nodes of each sentence (eq. 8). `roles`, on the CPU, are the relations between real words.

    Node 0 is the sentence as a whole: the mean of its words. The others are the words that have a subject or an object.
    For each of them, the GRU reads the mean of its subjects, the word, and the mean of its objects. An absent subject
    or object is a zero vector.
    """
    subjects, objects = (roles == role for role in (SUBJECT, OBJECT))
    text, position = (subjects | objects).any(2).nonzero(as_tuple=True)
    # The number of each relation within its sentence, from 1.
    rank = torch.arange(len(text)) - torch.searchsorted(text, text) + 1
    width = int(rank.max()) + 1 if len(rank) else 1
    mask = torch.zeros(len(words), width, dtype=torch.bool)
    triples = roles.new_full((len(words), width, 3), -1)
    members = torch.zeros(len(words), width, roles.shape[2], dtype=torch.bool)
    mask[:, 0], members[:, 0] = True, host(words.mask)
    mask[text, rank] = True
    ends = subjects[text, position], objects[text, position]
    members[text, rank] = ends[0] | ends[1] | F.one_hot(position, roles.shape[2]).bool()
    triples[text, rank] = torch.stack([_first(ends[0]), position, _first(ends[1])], 1)

    device = words.vectors.device
    mask, triples, members = (to_device(tensor, device) for tensor in (mask, triples, members))
    nodes = F.pad(mean_pool(words)[:, None], (0, 0, 0, width - 1))
    if len(rank):
        text, position, rank = (to_device(tensor, device) for tensor in (text, position, rank))
        vectors = words.vectors[text]
        means = [_mean_of(to_device(some, device), vectors) for some in ends]
        sequence = torch.stack([means[0], words.vectors[text, position], means[1]], 1)
        last = gru(sequence)[1].mean(0)
        nodes = nodes.index_put((text, rank), unit(last).to(nodes.dtype))
    return ReSGRelations(nodes, mask, triples, members)


def _mean_of(some: Bool[Tensor, "relation word"], words: Float[Tensor, "relation word dim"]) -> Tensor:
    """The mean of the marked words of each relation; zero if there is none."""
    weights = some.to(words.dtype)
    return (weights[:, None] @ words)[:, 0] / weights.sum(1, keepdim=True).clamp(min=1)


def best_matches(images: Fragments, texts: Fragments, direction: Direction) -> Float[Tensor, "image text"]:
    """Return the mean cosine of best matches of each pair (eq. 9).

    t2i: the mean over words of each word's largest cosine with a region. i2t: the mean over regions of each region's
    largest cosine with a word. both: the mean of the two.
    """
    cosine = similarities(images, texts)  # [image region word text]
    scores: list[Tensor] = []
    if direction in ("t2i", "both"):
        best = cosine.masked_fill(~images.mask[:, :, None, None], float("-inf")).amax(1)
        scores.append(_mean(best, texts.mask.T[None], images.mask.any(1)[:, None]))
    if direction in ("i2t", "both"):
        best = cosine.masked_fill(~texts.mask.T, float("-inf")).amax(2)
        scores.append(_mean(best, images.mask[:, :, None], texts.mask.any(1)[None]))
    return torch.stack(scores).mean(0)


def _mean(
    best: Float[Tensor, "image fragment text"], mask: Bool[Tensor, "#image fragment #text"], others: Tensor
) -> Float[Tensor, "image text"]:
    """The mean of `best` over the real fragments of one side; 0 if that side, or the other (`others`), has none."""
    kept = best.masked_fill(~(mask & others[:, None]), 0)
    return kept.sum(1, dtype=wide(kept)) / mask.sum(1).clamp(min=1)


def centers(
    images: Float[Tensor, "image dim"],
    texts: Float[Tensor, "text dim"],
    matches: Bool[Tensor, "image text"],
    config: ReSG.Config,
) -> Float[Tensor, ""]:
    """Return the center hinge, summed over the matched pairs.

    rank: the distance of each vector to the center of its image, against that to the nearest other center (eq. 12). A
    center is the unit mean of the vectors of an image and its sentences. pull: the distance of an image to the mean of
    its sentences (eq. 13). Distances are squared.
    """
    image, text = (to_device(places, images.device) for places in host(matches).nonzero(as_tuple=True))
    own = to_device(matches, images.device).to(texts.dtype)
    if config.center == "pull":
        mean = own @ texts / own.sum(1, keepdim=True)
        return ((images - mean).square().sum(1) - config.center_margin).relu()[image].sum()  # eq. 13
    middle = unit((images + own @ texts) / (1 + own.sum(1, keepdim=True)))
    middle = middle.detach() if config.center_fixed else middle
    total = images.new_zeros(())
    for vectors in (images[image], texts[text]):
        distance = 2 - 2 * inner(vectors, middle)  # of unit vectors, to every image's center: [match image]
        to_own = F.one_hot(image, len(images)).bool()
        others = distance.masked_fill(to_own, float("inf")).amin(1)
        own_distance = distance.gather(1, image[:, None])[:, 0]
        total = total + (own_distance + config.center_margin - others).relu().sum()  # eq. 12
    return total


def margin(
    scores: Float[Tensor, "image text"], matches: Bool[Tensor, "image text"], middle: Tensor | float, width: float
) -> Float[Tensor, ""]:
    """Return the positive-negative margin (eq. 14).

    It is the mean over all positive pairs plus the mean over all negative pairs, times the number of positive pairs.
    Metric learning usually averages over the pairs that violate the margin only. Both means would then pull a learnt
    middle with equal force in opposite directions, and it would not move.
    """
    num_positive = int(host(matches).sum())
    positive = to_device(matches, scores.device)
    low = (middle + width - scores).relu().masked_fill(~positive, 0)
    high = (scores - middle + width).relu().masked_fill(positive, 0)
    return low.sum() + num_positive * high.sum() / max(1, matches.numel() - num_positive)


def geometry(subject: Float[Tensor, "*pair 4"], other: Float[Tensor, "*pair 4"]) -> Float[Tensor, "*pair 7"]:
    """Return the position of the object relative to the subject, as 7 numbers.

    They are the offset and the log size in units of the subject's width and height, the IoU, and the distance and angle
    of the centres. The angle is that of `regard.boxes.polar`.
    """
    (near, size), (far, extent) = (
        ((box[..., :2] + box[..., 2:]) / 2, (box[..., 2:] - box[..., :2]).clamp(min=1e-3)) for box in (subject, other)
    )
    offset = far - near
    shared = (torch.minimum(subject[..., 2:], other[..., 2:]) - torch.maximum(subject[..., :2], other[..., :2])).relu()
    both = shared.prod(-1)
    overlap = both / (size.prod(-1) + extent.prod(-1) - both)
    polar = torch.stack([overlap, offset.norm(dim=-1), torch.atan2(offset[..., 0], offset[..., 1])], -1)
    return torch.cat([(offset / size).clamp(-10, 10), (extent / size).log(), polar], -1)


def _at(values: Float[Tensor, "image region part"], positions: Int[Tensor, "image relation"]) -> Tensor:
    return values.gather(1, positions[..., None].expand(-1, -1, values.shape[2]))


def _most_similar(affinity: Tensor, mask: Tensor, count: int) -> Bool[Tensor, "image region region"]:
    """Whether the second region is among the `count` other regions most similar to the first."""
    width = mask.shape[1]
    other = mask[:, None, :] & ~torch.eye(width, dtype=torch.bool, device=mask.device)
    best = _largest(affinity.masked_fill(~other, float("-inf")), min(count, width))
    return torch.zeros_like(other).scatter(2, best, True) & other


def _largest(values: Float[Tensor, "*item choice"], count: int) -> Int[Tensor, "*item chosen"]:
    """The positions of the largest values; of equal ones, the first. Which ones topk takes depends on the padding."""
    return values.argsort(dim=-1, descending=True, stable=True)[..., :count]


def _first(some: Bool[Tensor, "relation word"]) -> Int[Tensor, " relation"]:
    """The position of the first True in each row; -1 if there is none."""
    return torch.where(some.any(1), some.int().argmax(1), -1)


def _masked(vectors: Tensor, mask: Tensor) -> Tensor:
    return vectors.masked_fill(~mask[..., None], 0)
