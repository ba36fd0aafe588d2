"""The parser of sentences: relations between the words of a caption.

An edge goes from a head word to a dependent word. A predicate (a verb, a preposition) is the head of its subject and of
its object. A thing is the head of its attributes. A modifier is another part of the name of its head ("tennis racket",
"in front of"). Roles are those in the picture, not in the grammar: in "a hat is worn by a man" the man is the subject.
"""

import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from safetensors import safe_open
from torch import Tensor, nn

from regard.files import InputError
from regard.words.tokens import tokenize

ROLES = ("none", "subject", "object", "attribute", "modifier")
SUBJECT, OBJECT, ATTRIBUTE, MODIFIER = range(1, 5)
KINDS = ("other", "thing", "predicate")
PREDICATE = 2
RELUCTANCE = 1.0  # log odds against a role beyond which a predicate stays without it; chosen on FACTUAL's dev split
MAX_WORDS = 64  # of a sentence that are parsed; models read no more
CHUNK = 4096  # sentences parsed at a time
PAIRS = 2**18  # pairs of words per batch, which decide its memory
MEANT = {"of": "have", "'s": "have"}  # "the leg of the man": the man has a leg


@dataclass(frozen=True)
class Parse:
    """The words of one caption and the relations between them."""

    words: tuple[str, ...]
    kinds: tuple[int, ...]  # of each word: KINDS
    edges: tuple[tuple[int, int, int], ...]  # (head, dependent, role), places of words; role as in ROLES

    def dependents(self, head: int, role: int) -> list[int]:
        """Return the dependents of a head word with a role."""
        return [dependent for of, dependent, kind in self.edges if of == head and kind == role]

    def name(self, word: int) -> str:
        """Return the word with its modifiers, in the order of the caption."""
        places = sorted({word, *self.dependents(word, MODIFIER)})
        return " ".join(self.words[place] for place in places)

    @property
    def things(self) -> list[str]:
        return [self.name(word) for word in self.places]

    @property
    def places(self) -> list[int]:
        """The positions of the things."""
        return [word for word, kind in enumerate(self.kinds) if KINDS[kind] == "thing"]

    @property
    def attributes(self) -> list[tuple[str, str]]:
        """Pairs of a thing and one of its attributes."""
        pairs = [(head, word) for head, word, role in self.edges if role == ATTRIBUTE]
        return [(self.name(head), self.name(word)) for head, word in pairs if not self.possessor(word)]

    @property
    def noun_phrases(self) -> list[str]:
        """Each thing with the words before it that belong to it, as in the caption: "black and white dog"."""
        return [" ".join(self.words[slice(*self.phrase(thing))]) for thing in self.places]

    def phrase(self, thing: int) -> tuple[int, int]:
        """Return the positions (first, last + 1) of a thing with the words before it that belong to it."""
        own = {*self.dependents(thing, ATTRIBUTE), *self.dependents(thing, MODIFIER)}
        own |= {part for word in own for part in self.dependents(word, MODIFIER)}
        first = thing
        for place in range(thing - 1, -1, -1):
            if place in own and first - place <= 2:  # with at most one word between: "a black and white dog"
                first = place
        return first, thing + 1

    @property
    def links(self) -> list[tuple[int, str, int]]:
        """Triples of the position of the subject, the predicate, and the position of the object."""
        found = []
        for word, said in enumerate(self.words):
            for subject in self.dependents(word, SUBJECT):
                found += [(subject, MEANT.get(said, self.name(word)), thing) for thing in self.dependents(word, OBJECT)]
        owners = [(head, word) for head, word, role in self.edges if role == ATTRIBUTE and self.possessor(word)]
        return found + [(word, MEANT["'s"], head) for head, word in owners]

    @property
    def triples(self) -> list[tuple[str, str, str]]:
        """Triples (subject, predicate, object)."""
        return [(self.thing(one), said, self.thing(other)) for one, said, other in self.links]

    def thing(self, word: int) -> str:
        """Return the name of a subject or an object: man for "the man's"."""
        return self.words[word].removesuffix("'s").removesuffix("'") if self.possessor(word) else self.name(word)

    def possessor(self, word: int) -> bool:
        return self.words[word].endswith(("'s", "'"))

    def to_dict(self) -> dict[str, Any]:
        """Return everything for JSON: words and their kinds, edges by positions of words and names of roles."""
        return {
            "tokens": list(self.words),
            "kinds": [KINDS[kind] for kind in self.kinds],
            "things": self.things,
            "noun_phrases": self.noun_phrases,
            "attributes": self.attributes,
            "triples": self.triples,
            "edges": [{"head": head, "dependent": word, "role": ROLES[role]} for head, word, role in self.edges],
        }


# A parse of each caption, over the words that `regard.words.tokenize` returns.
Parser = Callable[[Sequence[str]], list[Parse]]


def parser(name: Literal["own", "spacy"] = "own") -> Parser:
    """Return a parser by its name. Raises InputError for spacy if it, or its English model, is not installed."""
    return own_parser() if name == "own" else SpacyParser()


def parse_all(
    captions: Sequence[str], parse: Parser | None = None, progress: Callable[[int], None] | None = None
) -> Iterator[Parse]:
    """Yield the parse of each caption, by Regard's own parser unless another is given; CHUNK are parsed at a time.

    `progress(n)` is called after every `n` captions.
    """
    parse = parse or own_parser()
    for start in range(0, len(captions), CHUNK):
        chunk = [captions[row] for row in range(start, min(start + CHUNK, len(captions)))]
        yield from parse(chunk)
        if progress:
            progress(len(chunk))


@cache
def own_parser() -> "OwnParser":
    weights = resources.files("regard.words") / "parser.safetensors"
    with resources.as_file(weights) as path, safe_open(path, "pt") as file:
        vocabulary = (file.metadata() or {})["vocabulary"].split(" ")
        state = {key: file.get_tensor(key).float() for key in file.keys()}  # noqa: SIM118  # not a mapping
    tagger = Tagger(len(vocabulary))
    tagger.load_state_dict(state)
    return OwnParser(tagger.eval(), vocabulary)


class OwnParser:
    """The parser that is part of Regard: small, fitted to region phrases (FACTUAL, Li et al. 2023) and Scenes.

    benchmarks/parser.py fits and measures it.
    """

    def __init__(self, tagger: "Tagger", vocabulary: Sequence[str]) -> None:
        self.tagger, self.number = tagger, {word: number for number, word in enumerate(vocabulary)}

    @torch.inference_mode()
    def __call__(self, captions: Sequence[str]) -> list[Parse]:
        """Parse the first MAX_WORDS words of each caption; later words are of no kind and have no relations."""
        sentences = [tuple(tokenize(caption)) for caption in captions]
        found: dict[int, Parse] = {}
        for rows in _batches([min(len(words), MAX_WORDS) for words in sentences]):
            parses = self._parses([sentences[row][:MAX_WORDS] for row in rows])
            found |= dict(zip(rows, parses, strict=True))
        return [_with_words(found[row], words) for row, words in enumerate(sentences)]

    def _parses(self, sentences: list[tuple[str, ...]]) -> Iterator[Parse]:
        if not any(sentences):
            yield from (Parse(words, (), ()) for words in sentences)
            return
        numbers, endings, mask = self.numbers(sentences)
        edges, kinds = self.tagger(numbers, endings, mask)
        kind = kinds.argmax(2)
        links: list[list[tuple[int, int, int]]] = [[] for _ in sentences]
        roles = _roles(edges, kind == PREDICATE, mask)
        at = roles.nonzero()
        for (row, head, dependent), role in zip(at.tolist(), roles[tuple(at.T)].tolist(), strict=True):
            links[row].append((head, dependent, role))
        for row, words in enumerate(sentences):
            yield Parse(words, tuple(kind[row, : len(words)].tolist()), tuple(links[row]))

    def numbers(
        self, sentences: Sequence[Sequence[str]]
    ) -> tuple[Int[Tensor, "text word"], Int[Tensor, "text word"], Bool[Tensor, "text word"]]:
        """Return words and word endings by number, and the mask of real words."""
        width = max(map(len, sentences))
        numbers = torch.zeros(len(sentences), width, dtype=torch.long)
        endings = torch.zeros(len(sentences), width, dtype=torch.long)
        for row, words in enumerate(sentences):
            numbers[row, : len(words)] = torch.tensor([self.number.get(word, 1) for word in words], dtype=torch.long)
            endings[row, : len(words)] = torch.tensor([_ending(word) for word in words], dtype=torch.long)
        return numbers, endings, numbers > 0


def _batches(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Yield the positions of sentences of similar length, with at most PAIRS pairs of words per batch."""
    rows: list[int] = []
    for row in np.argsort(lengths, kind="stable").tolist():  # each is at least as long as those before it
        if rows and (len(rows) + 1) * lengths[row] ** 2 > PAIRS:
            yield rows
            rows = []
        rows.append(row)
    if rows:
        yield rows


def _with_words(parse: Parse, words: tuple[str, ...]) -> Parse:
    """The parse of the first words of a sentence as one of all its `words`."""
    return replace(parse, words=words, kinds=(*parse.kinds, *[0] * (len(words) - len(parse.kinds))))


def _roles(
    logits: Float[Tensor, "text role head dependent"],
    is_predicate: Bool[Tensor, "text word"],
    mask: Bool[Tensor, "text word"],
) -> Int[Tensor, "text head dependent"]:
    """The likeliest role of each pair.

    A predicate without subject or object gets the likeliest one, down to RELUCTANCE.
    """
    apart = ~torch.eye(mask.shape[1], dtype=torch.bool)
    real = mask[:, :, None] & mask[:, None, :] & apart
    roles = logits.argmax(1) * real
    for role in (SUBJECT, OBJECT):
        odds = (logits[:, role] - logits[:, 0]).masked_fill(~real | (roles > 0), float("-inf"))
        best, dependent = odds.max(2)
        lacks = is_predicate & ~(roles == role).any(2) & (best > -RELUCTANCE)
        text, head = lacks.nonzero(as_tuple=True)
        roles[text, head, dependent[text, head]] = role
    return roles


NUM_ENDINGS = 1024


@cache
def _ending(word: str) -> int:
    return zlib.crc32(word[-3:].encode()) % NUM_ENDINGS


class Tagger(nn.Module):
    """A bidirectional GRU over words and endings. Each pair of words gets a role, each word a kind."""

    def __init__(self, num_words: int, word_dim: int = 48, ending_dim: int = 16, dim: int = 64, dropout: float = 0.3):
        super().__init__()
        self.words = nn.Embedding(num_words, word_dim, padding_idx=0)  # 0: padding, 1: an unknown word
        self.endings = nn.Embedding(NUM_ENDINGS, ending_dim)
        self.dropout = nn.Dropout(dropout)
        self.read = nn.GRU(word_dim + ending_dim, dim, batch_first=True, bidirectional=True)
        self.head, self.dependent = nn.Linear(2 * dim, dim), nn.Linear(2 * dim, dim)
        self.role = nn.Parameter(torch.randn(len(ROLES), dim + 1, dim + 1) * 0.05)
        self.kind = nn.Linear(2 * dim, len(KINDS))

    def forward(
        self, words: Int[Tensor, "text word"], endings: Int[Tensor, "text word"], mask: Bool[Tensor, "text word"]
    ) -> tuple[Float[Tensor, "text role head dependent"], Float[Tensor, "text word kind"]]:
        """Return the logits of the role of each (head, dependent), and of the kind of each word."""
        read = self.dropout(torch.cat([self.words(words), self.endings(endings)], -1))
        packed = nn.utils.rnn.pack_padded_sequence(
            read, mask.sum(1).clamp(min=1).cpu(), batch_first=True, enforce_sorted=False
        )
        states, _ = nn.utils.rnn.pad_packed_sequence(self.read(packed)[0], batch_first=True, total_length=mask.shape[1])
        states = self.dropout(states)
        one = torch.ones(*mask.shape, 1)
        heads = torch.cat([self.head(states).relu(), one], -1)
        dependents = torch.cat([self.dependent(states).relu(), one], -1)
        return torch.einsum("thd,rde,twe->trhw", heads, self.role, dependents), self.kind(states)


class SpacyParser:
    """spaCy's dependencies as roles, for users who have spaCy and an English model."""

    def __init__(self, model: str = "en_core_web_sm") -> None:
        try:
            import spacy

            self.read = spacy.load(model)
        except ImportError:
            raise InputError("The parser spacy needs spaCy: pip install spacy, and python -m spacy download "
                             f"{model}. The parser own needs nothing.") from None  # fmt: skip
        except OSError:
            raise InputError(f"spaCy has no model {model}: python -m spacy download {model}.") from None

    def __call__(self, captions: Sequence[str]) -> list[Parse]:
        from spacy.tokens import Doc

        sentences = [tokenize(caption) for caption in captions]
        docs = (Doc(self.read.vocab, words) for words in sentences)
        return [roles_of(doc) for doc in self.read.pipe(docs)]


def roles_of(doc: Any) -> Parse:
    """Return the parse of a spaCy Doc, from its dependencies (labels of ClearNLP)."""
    tokens = list(doc)
    edges: set[tuple[int, int, int]] = set()
    kinds = [0] * len(tokens)
    for token in tokens:
        at, head, label = token.i, token.head.i, token.dep_
        if token.pos_ in ("NOUN", "PROPN", "PRON") and label != "compound":
            kinds[at] = KINDS.index("thing")
        if label in ("amod", "nummod", "poss"):
            edges.add((head, at, ATTRIBUTE))
        elif label == "acomp":
            edges |= {(subject, at, ATTRIBUTE) for subject in _children(token.head, "nsubj")}
        elif label in ("compound", "prt"):
            edges.add((head, at, MODIFIER))
        elif label == "nsubj":
            edges.add((head, at, SUBJECT))
        elif label in ("dobj", "nsubjpass"):
            edges.add((head, at, OBJECT))
        elif label == "acl":  # "a man riding a horse"
            edges.add((at, head, OBJECT if token.tag_ == "VBN" else SUBJECT))
        elif label == "pobj" and token.head.dep_ == "agent":
            edges.add((token.head.head.i, at, SUBJECT))
        elif label == "pobj":
            edges |= _of_preposition(token)
    for head, _, role in edges:
        if role in (SUBJECT, OBJECT):
            kinds[head] = PREDICATE
    return Parse(tuple(token.text for token in tokens), tuple(kinds), tuple(sorted(edges)))


def _of_preposition(token: Any) -> set[tuple[int, int, int]]:
    """`sits on a bench` belongs to the verb with its preposition; `a man on a bench` to the preposition itself."""
    preposition = token.head
    governor = preposition.head
    if governor.pos_ in ("VERB", "AUX"):
        if _children(governor, "dobj"):
            return set()
        return {(governor.i, preposition.i, MODIFIER), (governor.i, token.i, OBJECT)}
    ends = (token.i, governor.i) if preposition.lower_ == "of" else (governor.i, token.i)
    return {(preposition.i, ends[0], SUBJECT), (preposition.i, ends[1], OBJECT)}


def _children(token: Any, label: str) -> list[int]:
    return [child.i for child in token.children if child.dep_ == label]
