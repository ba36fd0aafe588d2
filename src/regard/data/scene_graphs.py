"""Add scene graphs and dependency lists (GSMN) to splits, as relations."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from regard.data.graph_forms import read_graphs
from regard.data.ids import match_ids, show_ids
from regard.data.layout import Files, read_json
from regard.data.lines import Lines
from regard.data.relation_files import Triples
from regard.data.rows import ArrayColumn
from regard.data.split import Split
from regard.files import InputError
from regard.words import tokenize

VOCABULARIES = ("labels.txt", "predicates.txt")  # beside a file: the names of its classes and predicates, if numbers


@dataclass(frozen=True)
class SceneGraphs:
    """Scene graphs by image id, and the names of their classes and predicates, numbered alike for all splits."""

    graphs: dict[str, "SceneGraph"]
    classes: tuple[str, ...]
    predicates: tuple[str, ...]
    text_labels: tuple[str, ...]

    @classmethod
    def load(cls, paths: Sequence[str | Path]) -> "SceneGraphs":
        """Read files of scene graphs, in any of the forms of `graph_forms`.

        Pass the files of all splits together, so that their numbers agree. Raises InputError, with the record, for
        other content.
        """
        graphs: dict[str, SceneGraph] = {}
        for path in map(Path, paths):
            own = read_scene_graphs(path)
            if not own:
                raise InputError(f"{path} contains no scene graphs. docs/data.md shows one.")
            for name in own.keys() & graphs.keys():
                if graphs[name].content != own[name].content:
                    raise InputError(f"{path} has another scene graph of {name!r} than the files before it: give ids.")
            graphs |= own
        return cls(
            graphs,
            _names(label for graph in graphs.values() for label in graph.labels),
            _names(relation[1] for graph in graphs.values() for relation in graph.relations),
            _names(triple[1] for graph in graphs.values() for _, triples in graph.captions for triple in triples),
        )

    def of_images(self, ids: Sequence[str]) -> "list[SceneGraph]":
        """Return the graph of each image, whose ids are matched as by `match_ids`; an empty one if there is none."""
        matches, none = match_ids(ids, self.graphs), SceneGraph()
        return [self.graphs[matches[name]] if name in matches else none for name in ids]

    def added_to(self, split: Split) -> Split:
        """Return the split with the labels and relations of the graphs, and with their parsed sentences.

        Images without a graph have none. Raises InputError if no image has a graph, or if the numbers of regions
        differ.
        """
        graphs = self.of_images(list(split.ids))
        if not any(graph.labels for graph in graphs):
            raise InputError(
                f"No image of {split.folder}/{split.name} has a scene graph: its images are called "
                f"{show_ids(split.ids)}, those of the graphs {show_ids(self.graphs)}."
            )
        labels, counts = np.zeros((split.num_images, split.num_regions), np.int16), split.counts
        class_of = {name: number for number, name in enumerate(self.classes)}
        predicate_of = {name: number for number, name in enumerate(self.predicates)}
        relations: list[tuple[int, int, int, int, float]] = []
        for row, graph in enumerate(graphs):
            if len(graph.labels) > counts[row]:
                raise InputError(
                    f"The scene graph of {split.ids[row]} has {len(graph.labels)} regions, {split.folder}/{split.name} "
                    f"{counts[row]}: expected graphs made from the same regions."
                )
            labels[row, : len(graph.labels)] = [class_of[label] for label in graph.labels]
            relations += [(row, s, o, predicate_of[p], confidence) for s, p, o, confidence in graph.relations]
        triples = _to_triples(relations, split.num_images, self.predicates)
        split = replace(split, labels=ArrayColumn(labels), classes=self.classes, relations=triples)
        parsed = {text.lower(): triples for graph in graphs for text, triples in graph.captions}
        return self._with_parses(split, parsed) if parsed else split

    def captions(self, ids: Sequence[str]) -> tuple[list[str], np.ndarray]:
        """Return the sentences that the graphs of the images `ids` contain, and the image row of each."""
        texts = [[text for text, _ in graph.captions] for graph in self.of_images(ids)]
        return [text for own in texts for text in own], np.repeat(np.arange(len(ids)), [len(own) for own in texts])

    def _with_parses(self, split: Split, parsed: dict[str, Sequence[Sequence[str]]]) -> Split:
        label_of = {name: number for number, name in enumerate(self.text_labels)}
        relations = []
        for text, caption in enumerate(split.captions):
            words = tokenize(caption)
            for subject, label, target in parsed.get(caption.lower(), []):
                head, dependent = _word_position(subject, words), _word_position(target, words)
                if head is not None and dependent is not None and head != dependent:
                    relations.append((text, head, dependent, label_of[label], 1.0))
        return replace(split, text_relations=_to_triples(relations, split.num_texts, self.text_labels))


@dataclass(frozen=True)
class SceneGraph:
    """The scene graph of one image."""

    labels: Sequence[str] = ()  # the class of each region; "none" is no object
    relations: Sequence[tuple[int, str, int, float]] = ()  # subject, predicate, object, confidence
    captions: Sequence[tuple[str, Sequence[Sequence[str]]]] = ()  # sentences, and triples of their words
    boxes: np.ndarray | None = None  # float32 [region, 4], x1 y1 x2 y2
    size: tuple[float, float] | None = None  # width and height, if the boxes are in pixels

    @classmethod
    def of(cls, record: Any, classes: Sequence[str] = (), predicates: Sequence[str] = ()) -> "SceneGraph":
        """Read a record under any of the key names that published files use. Raises ValueError that says what is wrong.

        A class or predicate may be a number, which counts `classes` or `predicates` from 1; class 0 is no object.
        Relations of a region with itself, relations called none, and empty sentences are left out.
        """
        if not isinstance(record, dict):
            raise ValueError(f"it is {record!r:.40}: expected a scene graph with labels and relations")
        inner = record.get("bbox")  # of LGSGM's files
        labels = [_label(*item, classes) for item in enumerate(_list(record, inner, "labels"))]
        listed = next((_list(record, None, key) for key in ("relations", "rels", "sgg") if record.get(key)), [])
        relations = [_relation(each, len(labels), predicates) for each in listed]
        captions = [_caption(each) for each in _list(record, None, "captions")]
        boxes = np.array(record.get("boxes") or (isinstance(inner, dict) and inner.get("bboxes")) or (), np.float32)
        if boxes.size and (boxes.shape != (len(labels), 4) or not np.isfinite(boxes).all()):
            raise ValueError(f"its boxes are {list(boxes.shape)}: expected x1 y1 x2 y2 of each of {len(labels)} labels")
        size = [float(side) for side in record.get("size") or record.get("size_estimate") or ()]
        if size and (len(size) != 2 or not min(size) > 0):
            raise ValueError(f"its size is {size!r:.40}: expected width and height")
        return cls(
            labels,
            [relation for relation in relations if relation[0] != relation[2] and relation[1] != "none"],
            [(text, [each for each in triples if each[1] != "none"]) for text, triples in captions if text],
            boxes if boxes.size else None,
            (size[0], size[1]) if size else None,
        )

    @property
    def content(self) -> list[Any]:
        """Everything, to compare."""
        boxes = None if self.boxes is None else self.boxes.tolist()
        return [list(self.labels), list(self.relations), list(self.captions), boxes, self.size]


def read_scene_graphs(path: Path) -> dict[str, SceneGraph]:
    """Read the scene graphs of a file by image id. Raises InputError that names the record for other content."""
    graphs: dict[str, SceneGraph] = {}
    name = None
    try:
        beside = (path.with_name(other) for other in VOCABULARIES)
        names = [list(Lines(other)) if other.exists() else [] for other in beside]
        for name, record in read_graphs(path):
            graphs[name] = SceneGraph.of(record, *names)
    except InputError:
        raise
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, OverflowError) as error:
        where = f", {'after ' * (name in graphs)}record {name!r}" if name is not None else ""
        why = error if type(error) is ValueError else f"{type(error).__name__}: {error}"
        raise InputError(f"{path}{where}: {why}. docs/data.md shows the forms of scene graphs.") from None
    return graphs


def _list(record: dict[str, Any], inner: Any, key: str) -> list[Any]:
    value = record.get(key) or (inner.get(key) if isinstance(inner, dict) else None) or []
    if not isinstance(value, list):
        raise ValueError(f"its {key} are {value!r:.40}: expected a list")
    return value


def _label(region: int, value: Any, classes: Sequence[str]) -> str:
    name = "none" if classes and value == 0 else _named(value, classes)
    if not isinstance(name, str):
        raise ValueError(
            f"label {region} is {value!r:.40}: expected the name of a class, or a number of {VOCABULARIES[0]} beside "
            f"the file{_length(classes)}"
        )
    return name or "none"


def _named(value: Any, names: Sequence[str]) -> Any:
    """Return the name of a number, which counts lines from 1; any other value as it is."""
    return names[value - 1] if type(value) is int and 1 <= value <= len(names) else value


def _length(names: Sequence[str]) -> str:
    return f", which has {len(names)} names" if names else ""


def _relation(listed: Any, num_regions: int, predicates: Sequence[str]) -> tuple[int, str, int, float]:
    """Subject, predicate, object and confidence of a relation that is a list or a dictionary."""
    values = listed
    if isinstance(listed, dict):
        keys = ("subject", "predicate", "object", "confidence")
        values = [listed.get(key) for key in keys[: 3 + ("confidence" in listed)]]
    if not isinstance(values, list | tuple) or not 3 <= len(values) <= 4:
        raise ValueError(f"the relation {listed!r:.60} is not subject, predicate, object and perhaps a confidence")
    subject, predicate, other = values[0], _named(values[1], predicates), values[2]
    if not isinstance(predicate, str) or not predicate.strip():
        raise ValueError(
            f"the relation {listed!r:.60} has the predicate {predicate!r}: expected a name in the middle, or a number "
            f"of {VOCABULARIES[1]} beside the file{_length(predicates)}"
        )
    confidence = values[3] if len(values) == 4 else 1.0
    if isinstance(confidence, bool) or not isinstance(confidence, int | float) or not 0 <= confidence <= 1:
        raise ValueError(f"the relation {listed!r:.60} has the confidence {confidence!r}: expected 0 to 1")
    return _region(subject, num_regions), predicate, _region(other, num_regions), float(confidence)


def _region(name: Any, num_regions: int) -> int:
    """The number of a region that is written as 3, 3.0 or "man:3"."""
    number = name.rpartition(":")[2] if isinstance(name, str) else name
    if isinstance(number, str) and number.isdecimal():
        number = int(number)
    if isinstance(number, bool) or not isinstance(number, int | float) or number != int(number):
        raise ValueError(f"a relation of {name!r:.40}: expected the number of a region, or a name such as 'man:3'")
    if not 0 <= number < num_regions:
        raise ValueError(f"a relation of region {name!r} among {num_regions} labels")
    return int(number)


def _caption(listed: Any) -> tuple[str, list[list[str]]]:
    """A sentence and its triples of words; or a sentence alone."""
    text, triples = (listed.get("text"), listed.get("triples") or []) if isinstance(listed, dict) else (listed, [])
    if not isinstance(text, str):
        raise ValueError(f"the caption {listed!r:.60} has no text")
    for triple in triples:
        if len(triple) != 3 or not all(isinstance(word, str) for word in triple):
            raise ValueError(f"the triple {triple!r:.60} of a caption is not subject, predicate and object")
    return text.strip(), triples


def _names(occurring: Iterable[str]) -> tuple[str, ...]:
    return ("none", *sorted(set(occurring) - {"none"}))


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
        if not all(0 <= head <= len(words) and dependent > 0 for head, dependent in pairs):
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
