"""Read published scene graphs (LGSGM, SGM) and dependency lists (GSMN) as relations."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from regard.data.layout import Files, read_json
from regard.data.pickles import read_pickle
from regard.data.relation_files import Triples
from regard.data.rows import ArrayColumn
from regard.data.split import Split
from regard.files import InputError
from regard.words import tokenize


@dataclass(frozen=True)
class SceneGraphs:
    """Scene graphs by image id, and the names of their classes and predicates, numbered alike for all splits."""

    records: dict[str, dict[str, Any]]
    classes: tuple[str, ...]
    predicates: tuple[str, ...]
    text_labels: tuple[str, ...]

    @classmethod
    def load(cls, paths: Sequence[str | Path]) -> "SceneGraphs":
        """Read files of scene graphs.

        A file is a list of records with an `id`, or a dictionary from id to record, as JSON or as a pickle (of joblib,
        too) of plain values. Pass the files of all splits together, so that their numbers agree.

        A record has `labels`, one class per region; `relations` (or `rels`, `sgg`), lists of subject, predicate, object
        and perhaps a confidence, where subject and object are region numbers or names such as "man:3"; and perhaps
        `captions`, dictionaries of `text` and `triples` of words. Raises InputError for other content.
        """
        records: dict[str, dict[str, Any]] = {}
        for path in map(Path, paths):
            content = read_json(path) if path.suffix == ".json" else read_pickle(path)
            try:
                records |= content if isinstance(content, dict) else {str(record["id"]): record for record in content}
                graphs = [SceneGraph(record) for record in records.values()]
            except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
                raise InputError(
                    f"{path} is not a list of scene graphs ({type(error).__name__}: {error}). docs/data.md shows one."
                ) from None
        return cls(
            records,
            _names(label for graph in graphs for label in graph.labels),
            _names(relation[1] for graph in graphs for relation in graph.relations),
            _names(triple[1] for graph in graphs for _, triples in graph.captions for triple in triples),
        )

    def added_to(self, split: Split) -> Split:
        """Return the split with the labels and relations of the graphs, and with their parsed sentences.

        Images without a graph have none. Raises InputError if no image has a graph, or if the numbers of regions
        differ.
        """
        graphs = [SceneGraph(self.records.get(name, {})) for name in split.ids]
        if not any(graph.labels for graph in graphs):
            raise InputError(
                f"No image of {split.folder}/{split.name} has a scene graph; {split.ids[0]}, for example, "
                f"is not among the graphs."
            )
        labels = np.zeros((split.num_images, split.num_regions), np.int16)
        class_of = {name: number for number, name in enumerate(self.classes)}
        predicate_of = {name: number for number, name in enumerate(self.predicates)}
        relations: list[tuple[int, int, int, int, float]] = []
        for row, graph in enumerate(graphs):
            if len(graph.labels) > split.num_regions:
                raise InputError(
                    f"The scene graph of {split.ids[row]} has {len(graph.labels)} regions, {split.folder}/{split.name} "
                    f"{split.num_regions}: expected graphs made from the same regions."
                )
            labels[row, : len(graph.labels)] = [class_of[label] for label in graph.labels]
            relations += [(row, s, o, predicate_of[p], confidence) for s, p, o, confidence in graph.relations]
        triples = _to_triples(relations, split.num_images, self.predicates)
        split = replace(split, labels=ArrayColumn(labels), classes=self.classes, relations=triples)
        parsed = {text.lower(): triples for graph in graphs for text, triples in graph.captions}
        return self._with_parses(split, parsed) if parsed else split

    def captions(self, ids: Sequence[str]) -> tuple[list[str], np.ndarray]:
        """Return the sentences that the graphs of the images `ids` contain, and the image row of each."""
        texts = [[text for text, _ in SceneGraph(self.records.get(name, {})).captions] for name in ids]
        return [text for own in texts for text in own], np.repeat(np.arange(len(ids)), [len(own) for own in texts])

    def _with_parses(self, split: Split, parsed: dict[str, list[list[str]]]) -> Split:
        label_of = {name: number for number, name in enumerate(self.text_labels)}
        relations = []
        for text, caption in enumerate(split.captions):
            words = tokenize(caption)
            for subject, label, target in parsed.get(caption.lower(), []):
                head, dependent = _word_position(subject, words), _word_position(target, words)
                if head is not None and dependent is not None and head != dependent:
                    relations.append((text, head, dependent, label_of[label], 1.0))
        return replace(split, text_relations=_to_triples(relations, split.num_texts, self.text_labels))


class SceneGraph:
    """One record of a file of scene graphs, under any of the key names that published files use."""

    def __init__(self, record: dict[str, Any]) -> None:
        self.labels: list[str] = record.get("labels") or (record.get("bbox") or {}).get("labels") or []
        listed = record.get("relations") or record.get("rels") or record.get("sgg") or []
        self.relations = [
            (_region(s), str(p), _region(o), float(*confidence or [1])) for s, p, o, *confidence in listed
        ]
        self.captions = [(own["text"].strip(), own.get("triples", [])) for own in record.get("captions", [])]
        wrong = [place for s, _, o, _ in self.relations for place in (s, o) if not 0 <= place < len(self.labels)]
        if wrong:
            raise ValueError(f"a relation of region {wrong[0]} among {len(self.labels)} labels")


def _region(name: int | str) -> int:
    return int(name.rpartition(":")[2]) if isinstance(name, str) else name


def _names(occurring: Iterable[str]) -> tuple[str, ...]:
    return ("none", *sorted(set(occurring)))


def _word_position(phrase: str, words: list[str]) -> int | None:
    """The position of a parsed word among `words`: the same, or one with the same start (`truck`, `trucks`)."""
    word = (tokenize(phrase) or [""])[-1]
    same = [place for place, other in enumerate(words) if other == word]
    longer = [place for place, other in enumerate(words) if len(word) > 2 and other.startswith(word[:-1])]
    return next(iter(same + longer), None)


def _to_triples(relations: list[tuple[int, int, int, int, float]], num_items: int, names: Sequence[str]) -> Triples:
    table = np.array(relations, np.float64).reshape(-1, 5)
    item, source, target, label = table[:, :4].astype(np.int64).T
    return Triples.of(item, source, target, label, names, num_items, table[:, 4].astype(np.float16))


def with_dependencies(split: Split) -> Split:
    """Return the split with the dependencies of GSMN's `{split}_caps.json`, if there is such a file.

    The file has, for each sentence, [head, dependent] pairs of Stanford CoreNLP's tokens, counted from 1; 0 is the
    root. The tokens are reconstructed from the sentence and matched to words. A sentence whose number of tokens does
    not agree with its pairs gets no relations. Raises InputError if the file does not have one list per sentence.
    """
    path = Files(split.folder, split.name).path("caps.json")
    if not path.exists():
        return split
    listed = read_json(path)
    if not isinstance(listed, list) or len(listed) != split.num_texts:
        raise InputError(f"{path} is not a list of pairs for {split.num_texts} sentences. Make it from this caps.txt.")
    relations: list[tuple[int, int, int, int, float]] = []
    for text, pairs in enumerate(listed):
        try:
            pairs = _over_sentences([(int(head), int(dependent)) for head, dependent in pairs])
        except (TypeError, ValueError):
            raise InputError(f"{path}, sentence {text} is {pairs!r:.60}: expected pairs of token numbers.") from None
        words = _words_of_tokens(split.captions[text])
        if max((dependent for _, dependent in pairs), default=0) != len(words):
            continue
        linked = {(words[head - 1], words[dependent - 1]) for head, dependent in pairs if head}
        relations += [
            (text, head, dependent, 1, 1.0) for head, dependent in sorted(linked) if -1 < head != dependent > -1
        ]
    return replace(split, text_relations=_to_triples(relations, split.num_texts, ("none", "depends")))


def _over_sentences(pairs: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Pairs numbered over the whole text. CoreNLP numbers each sentence of a text from 1, beginning with its root."""
    out, offset, size = [], 0, 0
    for head, dependent in pairs:
        if head == 0:
            offset, size = offset + size, 0
        out.append((head + offset if head else 0, dependent + offset))
        size += 1
    return out


_TOKEN = re.compile(
    r"\.\.\.|--|\w+(?:[-.,/]\w+)*?(?=n't\b)|n't\b|'(?:s|re|ve|ll|d|m)\b|\w+(?:[-.,/&]\w+)*|\S", re.IGNORECASE
)


def _words_of_tokens(caption: str) -> list[int]:
    """For each token of CoreNLP, the position of its word in Regard's tokenization; -1 for punctuation."""
    word_of_letter = [place for place, word in enumerate(tokenize(caption)) for _ in _letters(word)]
    places, letters = [], 0
    for token in _TOKEN.findall(caption):
        count = len(_letters(" ".join(tokenize(token))))
        places.append(word_of_letter[letters] if count and letters < len(word_of_letter) else -1)
        letters += count
    return places


def _letters(text: str) -> str:
    return "".join(filter(str.isalnum, text))
