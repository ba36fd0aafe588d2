"""Fit and measure the sentence parser that comes with Regard.

    python benchmarks/parser.py measure DEV.csv              print F1 on FACTUAL's phrases and captions per second
    python benchmarks/parser.py fit TRAIN.csv --out FILE     fit the parser again (takes minutes) and write its weights

The files are FACTUAL's (Li et al., Findings of ACL 2023, MIT). The column `caption` describes a region. The column
`scene_graph` contains its triples, `( subject , predicate , object )`, in which the predicate `is` marks an attribute.

F1 is a micro average over all captions, of four sets per caption: things, attributes (thing, attribute), ends (subject,
object) of relations, and whole relations (subject, predicate, object). Two names match if they have the same number of
words and each pair of words has a stem in common (`riding` and `ride`, `two` and `2`).
"""

import argparse
import csv
import random
import re
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from safetensors.torch import save_file

from regard.scenes.grammar import FORMS
from regard.words.parser import ATTRIBUTE, MODIFIER, OBJECT, SUBJECT, OwnParser, Parse, Tagger, own_parser
from regard.words.tokens import tokenize

IRREGULAR = {
    "men": "man", "women": "woman", "children": "child", "people": "person", "feet": "foot", "teeth": "tooth",
    "wore": "wear", "worn": "wear", "held": "hold", "sat": "sit", "stood": "stand", "ran": "run", "flew": "fly",
    "flown": "fly", "ate": "eat", "eaten": "eat", "drove": "drive", "driven": "drive", "rode": "ride",
    "ridden": "ride", "hung": "hang", "laid": "lay", "lying": "lay", "lies": "lay", "lie": "lay", "lain": "lay",
    "built": "build", "made": "make", "thrown": "throw", "threw": "throw", "written": "write", "drawn": "draw",
    "shown": "show", "seen": "see", "taken": "take", "torn": "tear", "caught": "catch", "swung": "swing",
    "has": "have", "having": "have", "had": "have", "one": "1", "two": "2", "three": "3", "four": "4", "five": "5",
    "six": "6", "seven": "7", "eight": "8", "leaves": "leaf", "knives": "knife", "shelves": "shelf", "mice": "mouse",
    "wooden": "wood", "grey": "gray", "bent": "bend", "cut": "cut", "lit": "light", "geese": "goose",
}  # fmt: skip
HAVE = ("has", "have", "having", "with", "of", "had")
Triple = tuple[str, str, str]
Example = tuple[list[str], tuple[set[tuple[int, int, int]], dict[int, int]]]  # words, edges, kinds


def stems(word: str) -> set[str]:
    """Return the stems that a word may be a form of, itself included."""
    candidates = {word, IRREGULAR.get(word, word)}
    for ending, others in (("ies", ("y",)), ("es", ("", "e")), ("s", ("",)), ("ied", ("y",)), ("ed", ("", "e"))):
        if word.endswith(ending) and len(word) > len(ending) + 1:
            candidates |= {word.removesuffix(ending) + other for other in others}
    if word.endswith("ing") and len(word) > 4:
        candidates |= {word[:-3], word[:-3] + "e"}
    for stem in list(candidates):
        if len(stem) > 3 and stem[-1] == stem[-2]:  # sitting, planned
            candidates.add(stem[:-1])
    return candidates


def same_words(one: Sequence[str], other: Sequence[str]) -> bool:
    """Return whether two names match: as many words, and a stem in common for each pair of words."""
    return len(one) == len(other) and all(stems(a) & stems(b) for a, b in zip(one, other, strict=True))


def parse_graph(text: str) -> list[Triple]:
    """Return the triples of a scene graph in FACTUAL's notation. Skip what does not have three parts."""
    parts = (tuple(part.strip() for part in triple.split(" , ")) for triple in re.findall(r"\(([^()]*)\)", text))
    return [part for part in parts if len(part) == 3 and all(part)]


def read_captions(path: Path) -> list[tuple[str, list[Triple]]]:
    """Read the captions of a file of FACTUAL, each with the triples of its graph."""
    with open(path, encoding="utf-8") as file:
        return [(row["caption"], parse_graph(row["scene_graph"])) for row in csv.DictReader(file)]


def label_words(words: Sequence[str], triples: Iterable[Triple]) -> tuple[set[tuple[int, int, int]], dict[int, int]]:
    """Return the training labels of a caption: edges between its words, and kinds of words (1 thing, 2 predicate).

    Names of the graph that do not occur in the words are skipped.
    """
    edges: set[tuple[int, int, int]] = set()
    kinds: dict[int, int] = {}

    def places(name: str) -> list[int]:
        """Return the positions of the last word of a name."""
        want = tokenize(name)
        ends = [
            at + len(want) - 1
            for at in range(len(words) - len(want) + 1)
            if same_words(words[at : at + len(want)], want)
        ]
        if not ends and want:
            ends = [at for at, word in enumerate(words) if same_words([word.removesuffix("'s")], want[-1:])]
        return ends

    def mark(at: int, name: str) -> int:
        """Add edges from the last word of a name, at `at`, to its other words. Return `at`."""
        want = tokenize(name)
        for back in range(1, len(want)):
            if at - back >= 0 and same_words([words[at - back]], [want[-1 - back]]):
                edges.add((at, at - back, MODIFIER))
        return at

    for subject, predicate, thing in triples:
        subjects = places(subject)
        if not subjects:
            continue
        if predicate == "is":
            attributes = places(thing)
            if attributes:
                head, word = min(
                    ((s, t) for s in subjects for t in attributes), key=lambda pair: abs(pair[0] - pair[1])
                )
                if head != word:
                    edges.add((mark(head, subject), mark(word, thing), ATTRIBUTE))
            kinds[subjects[0]] = 1
            continue
        objects = places(thing)
        if not objects:
            kinds[mark(subjects[0], subject)] = 1
            continue
        want = tokenize(predicate)
        at = [p for p in range(len(words)) if same_words(words[p : p + len(want)], want)]
        length = len(want)
        if not at and want:
            at, length = [p for p in range(len(words)) if same_words([words[p]], want[:1])], 1
        if not at and predicate == "have":
            at = [p for p, word in enumerate(words) if word in HAVE]
            if not at:  # the man's hat
                owners = [s for s in subjects if words[s].endswith(("'s", "'"))]
                for owner in owners[:1]:
                    head = min(objects, key=lambda place: abs(place - owner))
                    edges.add((mark(head, thing), owner, ATTRIBUTE))
                    kinds[head] = 1
                continue
        if not at:
            kinds[mark(subjects[0], subject)] = kinds[mark(objects[0], thing)] = 1
            continue
        # A name for one expression: a def would be four lines.
        spread = lambda s, p, o: abs(s - p) + abs(o - p)  # noqa: E731
        ends = [(s, p, o) for s in subjects for p in at for o in objects if len({s, p, o}) == 3]
        if not ends:
            continue
        s, p, o = min(ends, key=lambda trio: spread(*trio))
        edges |= {(p, mark(s, subject), SUBJECT), (p, mark(o, thing), OBJECT)}
        kinds[s] = kinds[o] = 1
        kinds[p] = 2
        for more in range(1, length):
            edges.add((p, p + more, MODIFIER))
        for word in want[1:] if length == 1 else ():
            near = [q for q in range(p + 1, min(p + 4, len(words))) if same_words([words[q]], [word])]
            edges |= {(p, q, MODIFIER) for q in near[:1]}
    return edges, kinds


def stated_triple(form: str) -> Triple | None:
    """Return the triple that a form of the made world's grammar states about {s} and {o}; None if it states none.

    The predicate is the words between the two. If they end in "by", the form is passive, and its second thing is the
    subject.
    """
    if " and " in form:  # "{s} on the left and {o} on the right" does not relate one to the other
        return None
    if "riding it" in form:
        return "{s}", "riding", "{o}"
    first, between, second = re.findall(r"(\{.\})(.*)(\{.\})", form)[0]
    words = [word for word in between.split() if word not in ("is", "the", "to", "partly")]
    if words[-1] == "by":
        return second, words[0], first
    return first, " ".join(words), second


def form_example(form: str, things: Sequence[str], attributes: Sequence[str], rng: random.Random) -> Example:
    """Return a form with two random noun phrases, made of words of the training phrases, as a training example."""
    names = {"{s}": rng.choice(things), "{o}": rng.choice(things)}
    graph: list[Triple] = []
    text = form
    for place, name in names.items():
        chosen = rng.sample(attributes, rng.choice((0, 0, 1, 1, 2)))
        is_after = len(chosen) == 1 and rng.random() < 0.4
        phrase = f"{name} in {chosen[0]}" if is_after else " ".join([*chosen, name])
        text = text.replace(place, f"{rng.choice(('a', 'the'))} {phrase}")
        graph += [(name, "is", attribute) for attribute in chosen]
    triple = stated_triple(form)
    if triple is not None:
        graph.append((names[triple[0]], triple[1], names[triple[2]]))
    words = tokenize(text)
    edges, kinds = label_words(words, graph)
    for place, word in enumerate(words):
        if word in (names["{s}"], names["{o}"]):
            kinds[place] = 1
    return words, (edges, kinds)


def fit(path: Path, out: Path, epochs: int, seed: int = 0) -> None:
    """Fit the parser to a file of FACTUAL and to the forms of the made world, and write its weights to `out`."""
    torch.manual_seed(seed)
    examples = [(tokenize(caption), graph) for caption, graph in read_captions(path)]
    nouns = Counter(end for _, graph in examples for s, p, o in graph for end in ((s, o) if p != "is" else (s,)))
    qualities = Counter(o for _, graph in examples for _, p, o in graph if p == "is")
    nouns, qualities = (
        Counter({name: n for name, n in counts.items() if " " not in name}) for counts in (nouns, qualities)
    )
    examples = [(words, label_words(words, graph)) for words, graph in examples if words]
    counts = Counter(word for words, _ in examples for word in words)
    vocabulary = ["<pad>", "<unk>", *sorted(word for word, count in counts.items() if count >= 2)]
    print(f"{len(examples):,} phrases, {len(vocabulary):,} words")
    tagger = Tagger(len(vocabulary))
    parser = OwnParser(tagger, vocabulary)
    optimizer = torch.optim.Adam(tagger.parameters(), lr=2e-3)
    steps = epochs * (len(examples) // 64)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=steps)
    rng = random.Random(seed)
    things = [word for word, _ in nouns.most_common(600)]
    attributes = [word for word, _ in qualities.most_common(200)]
    forms = [form for group in FORMS.values() for form in group]
    tagger.train()
    step = 0
    for epoch in range(epochs):
        total = 0.0
        order = rng.sample(range(len(examples)), len(examples))
        for at in range(0, len(order) - 64, 64):
            if step == steps:
                break
            batch = [examples[row] for row in order[at : at + 64]]
            batch[:63:3] = [join_examples(*two, rng) for two in zip(batch[:63:3], batch[1::3], strict=True)]
            batch += [form_example(rng.choice(forms), things, attributes, rng) for _ in range(8)]
            loss = step_loss(parser, batch)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(tagger.parameters(), 5.0)
            optimizer.step()
            schedule.step()
            step += 1
            total += float(loss.detach())
        print(f"epoch {epoch + 1}: loss {total / (len(order) // 64):.4f}", flush=True)
    state = {key: value.half() for key, value in tagger.eval().state_dict().items()}
    about = "Fit on FACTUAL (Zhuang Li et al. 2023, MIT licence) and forms of Scenes by benchmarks/parser.py."
    save_file(state, out, {"vocabulary": " ".join(vocabulary), "about": about})


def join_examples(one: Example, other: Example, rng: random.Random) -> Example:
    """Return two phrases as one sentence, from which the parser learns not to relate things of different parts."""
    (first, (edges, kinds)), (second, (more, others)) = one, other
    link = rng.choice(([], ["and"], ["and"], ["while"], ["as"]))
    shift = len(first) + len(link)
    edges = edges | {(h + shift, d + shift, role) for h, d, role in more}
    return [*first, *link, *second], (edges, kinds | {word + shift: kind for word, kind in others.items()})


def step_loss(parser: OwnParser, batch: Sequence[Example]) -> torch.Tensor:
    """Return the loss per word of edges and kinds. 8 % of the words are replaced by the unknown word."""
    numbers, endings, mask = parser.numbers([words for words, _ in batch])
    hidden = mask & (torch.rand(mask.shape) < 0.08)
    edges, kinds = parser.tagger(numbers.masked_fill(hidden, 1), endings, mask)
    role = torch.zeros(len(batch), mask.shape[1], mask.shape[1], dtype=torch.long)
    kind = torch.zeros(mask.shape, dtype=torch.long)
    for row, (_, (labelled_edges, labelled_kinds)) in enumerate(batch):
        for head, dependent, number in labelled_edges:
            role[row, head, dependent] = number
        for word, number in labelled_kinds.items():
            kind[row, word] = number
    both = mask[:, :, None] & mask[:, None, :]
    cross = torch.nn.functional.cross_entropy
    linked = cross(edges.permute(0, 2, 3, 1)[both], role[both], reduction="sum")
    return (linked + 0.5 * cross(kinds[mask], kind[mask], reduction="sum")) / mask.sum()


def measure(path: Path) -> None:
    """Print F1 of the parser on a file of FACTUAL, and its speed."""
    examples, parse = read_captions(path), own_parser()
    parse(["warm up"])
    began = time.perf_counter()
    parses = parse([caption for caption, _ in examples])
    seconds = time.perf_counter() - began
    print(f"{len(examples):,} captions, {len(examples) / seconds:,.0f} per second")
    for name, (correct, predicted, gold) in count_matches(parses, [graph for _, graph in examples]).items():
        precision, recall = correct / max(predicted, 1), correct / max(gold, 1)
        print(f"{name:12} P {precision:.3f}  R {recall:.3f}  F1 {2 * correct / (predicted + gold):.3f}")


def count_matches(parses: Sequence[Parse], graphs: Sequence[list[Triple]]) -> dict[str, tuple[int, int, int]]:
    """Return (correct, predicted, gold) counts of things, attributes, ends and triples."""
    totals: dict[str, list[int]] = {name: [0, 0, 0] for name in ("things", "attributes", "ends", "triples")}
    for parse, graph in zip(parses, graphs, strict=True):
        links = [triple for triple in graph if triple[1] != "is"]
        gold = {
            "things": [(name,) for name in {end for s, p, o in graph for end in ((s, o) if p != "is" else (s,))}],
            "attributes": [(s, o) for s, p, o in graph if p == "is"],
            "ends": [(s, o) for s, _, o in links],
            "triples": links,
        }
        predicted = {
            "things": [(name,) for name in set(parse.things)],
            "attributes": parse.attributes,
            "ends": [(s, o) for s, _, o in parse.triples],
            "triples": parse.triples,
        }
        for name, total in totals.items():
            left = [[tokenize(part) for part in item] for item in dict.fromkeys(gold[name])]
            items = [[tokenize(part) for part in item] for item in dict.fromkeys(predicted[name])]
            total[1] += len(items)
            total[2] += len(left)
            for item in items:
                for want in left:
                    if all(same_words(a, b) for a, b in zip(item, want, strict=True)):
                        left.remove(want)
                        total[0] += 1
                        break
    return {name: (correct, predicted, gold) for name, (correct, predicted, gold) in totals.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    one = verbs.add_parser("measure")
    one.add_argument("path", type=Path)
    two = verbs.add_parser("fit")
    two.add_argument("path", type=Path)
    two.add_argument("--out", type=Path, required=True)
    two.add_argument("--epochs", type=int, default=10)
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.verb == "measure":
        measure(given.path)
    else:
        fit(given.path, given.out, given.epochs)


if __name__ == "__main__":
    main()
