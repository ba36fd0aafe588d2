"""The parser of sentences that comes with Regard: fit it, measure it.

    python benchmarks/parser.py measure DEV.csv              F1 on FACTUAL's phrases, captions a second
    python benchmarks/parser.py fit TRAIN.csv --out FILE     make relations.safetensors again (minutes)

The files are FACTUAL's (Li et al., Findings of ACL 2023, MIT): a `caption` of a region and its `scene_graph`, triples
`( subject , predicate , object )` in which the predicate `is` gives an attribute.

Measured are micro F1 of what a caption's graph says, as sets: things; attributes (thing, attribute); the ends (subject,
object) and the whole triples of relations. Two names agree where they have as many words, and each pair of words has a
stem in common (`riding` and `ride`, `two` and `2`).
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
    """What the word may be a form of."""
    found = {word, IRREGULAR.get(word, word)}
    for ending, others in (("ies", ("y",)), ("es", ("", "e")), ("s", ("",)), ("ied", ("y",)), ("ed", ("", "e"))):
        if word.endswith(ending) and len(word) > len(ending) + 1:
            found |= {word.removesuffix(ending) + other for other in others}
    if word.endswith("ing") and len(word) > 4:
        found |= {word[:-3], word[:-3] + "e"}
    for stem in list(found):
        if len(stem) > 3 and stem[-1] == stem[-2]:  # sitting, planned
            found.add(stem[:-1])
    return found


def alike(one: Sequence[str], other: Sequence[str]) -> bool:
    return len(one) == len(other) and all(stems(a) & stems(b) for a, b in zip(one, other, strict=True))


def graph_of(text: str) -> list[Triple]:
    """A scene graph's triples; those that are not three are left out."""
    parts = (tuple(part.strip() for part in found.split(" , ")) for found in re.findall(r"\(([^()]*)\)", text))
    return [part for part in parts if len(part) == 3 and all(part)]


def read(path: Path) -> list[tuple[str, list[Triple]]]:
    with open(path, encoding="utf-8") as file:
        return [(row["caption"], graph_of(row["scene_graph"])) for row in csv.DictReader(file)]


def project(words: Sequence[str], triples: Iterable[Triple]) -> tuple[set[tuple[int, int, int]], dict[int, int]]:
    """The edges and kinds that a graph means over the caption's words; what is not found in them is left out."""
    edges: set[tuple[int, int, int]] = set()
    kinds: dict[int, int] = {}

    def places(name: str) -> list[int]:
        """Where the name's last word stands."""
        want = tokenize(name)
        found = [
            at + len(want) - 1 for at in range(len(words) - len(want) + 1) if alike(words[at : at + len(want)], want)
        ]
        if not found and want:
            found = [at for at, word in enumerate(words) if alike([word.removesuffix("'s")], want[-1:])]
        return found

    def mark(at: int, name: str) -> int:
        want = tokenize(name)
        for back in range(1, len(want)):
            if at - back >= 0 and alike([words[at - back]], [want[-1 - back]]):
                edges.add((at, at - back, MODIFIER))
        return at

    for subject, predicate, thing in triples:
        subjects = places(subject)
        if not subjects:
            continue
        if predicate == "is":
            told = places(thing)
            if told:
                head, word = min(((s, t) for s in subjects for t in told), key=lambda pair: abs(pair[0] - pair[1]))
                if head != word:
                    edges.add((mark(head, subject), mark(word, thing), ATTRIBUTE))
            kinds[subjects[0]] = 1
            continue
        objects = places(thing)
        if not objects:
            kinds[mark(subjects[0], subject)] = 1
            continue
        want = tokenize(predicate)
        at = [p for p in range(len(words)) if alike(words[p : p + len(want)], want)]
        length = len(want)
        if not at and want:
            at, length = [p for p in range(len(words)) if alike([words[p]], want[:1])], 1
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
            near = [q for q in range(p + 1, min(p + 4, len(words))) if alike([words[q]], [word])]
            edges |= {(p, q, MODIFIER) for q in near[:1]}
    return edges, kinds


def said_by(form: str) -> Triple | None:
    """What a form of the made world's grammar says in its own words, of {s} and {o}; None where it says nothing.

    The words between the two are the predicate; before "by" it is passive, and then the second thing is the subject.
    """
    if " and " in form:  # "{s} on the left and {o} on the right" says nothing of one about the other
        return None
    if "riding it" in form:
        return "{s}", "riding", "{o}"
    first, between, second = re.findall(r"(\{.\})(.*)(\{.\})", form)[0]
    words = [word for word in between.split() if word not in ("is", "the", "to", "partly")]
    if words[-1] == "by":
        return second, words[0], first
    return first, " ".join(words), second


def form_example(form: str, things: Sequence[str], attributes: Sequence[str], dice: random.Random) -> Example:
    """A form with two noun phrases of the training phrases' own words, as words with edges and kinds."""
    names = {"{s}": dice.choice(things), "{o}": dice.choice(things)}
    graph: list[Triple] = []
    text = form
    for place, name in names.items():
        told = dice.sample(attributes, dice.choice((0, 0, 1, 1, 2)))
        in_colour = len(told) == 1 and dice.random() < 0.4
        phrase = f"{name} in {told[0]}" if in_colour else " ".join([*told, name])
        text = text.replace(place, f"{dice.choice(('a', 'the'))} {phrase}")
        graph += [(name, "is", attribute) for attribute in told]
    said = said_by(form)
    if said is not None:
        graph.append((names[said[0]], said[1], names[said[2]]))
    words = tokenize(text)
    edges, kinds = project(words, graph)
    for place, word in enumerate(words):
        if word in (names["{s}"], names["{o}"]):
            kinds[place] = 1
    return words, (edges, kinds)


def fit(path: Path, out: Path, epochs: int, seed: int = 0) -> None:
    torch.manual_seed(seed)
    examples = [(tokenize(caption), graph) for caption, graph in read(path)]
    nouns = Counter(end for _, graph in examples for s, p, o in graph for end in ((s, o) if p != "is" else (s,)))
    told = Counter(o for _, graph in examples for _, p, o in graph if p == "is")
    nouns, told = (Counter({name: n for name, n in some.items() if " " not in name}) for some in (nouns, told))
    examples = [(words, project(words, graph)) for words, graph in examples if words]
    counts = Counter(word for words, _ in examples for word in words)
    vocabulary = ["<pad>", "<unk>", *sorted(word for word, count in counts.items() if count >= 2)]
    print(f"{len(examples):,} phrases, {len(vocabulary):,} words")
    tagger = Tagger(len(vocabulary))
    parser = OwnParser(tagger, vocabulary)
    optimizer = torch.optim.Adam(tagger.parameters(), lr=2e-3)
    steps = epochs * (len(examples) // 64)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=steps)
    dice = random.Random(seed)
    things = [word for word, _ in nouns.most_common(600)]
    attributes = [word for word, _ in told.most_common(200)]
    forms = [form for some in FORMS.values() for form in some]
    tagger.train()
    step = 0
    for epoch in range(epochs):
        total = 0.0
        order = dice.sample(range(len(examples)), len(examples))
        for at in range(0, len(order) - 64, 64):
            if step == steps:
                break
            batch = [examples[row] for row in order[at : at + 64]]
            batch[:63:3] = [joined(*two, dice) for two in zip(batch[:63:3], batch[1::3], strict=True)]
            batch += [form_example(dice.choice(forms), things, attributes, dice) for _ in range(8)]
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


def joined(one: Example, other: Example, dice: random.Random) -> Example:
    """Two phrases as one sentence, so that what is said in one part is not looked for in the other."""
    (first, (edges, kinds)), (second, (more, others)) = one, other
    link = dice.choice(([], ["and"], ["and"], ["while"], ["as"]))
    shift = len(first) + len(link)
    edges = edges | {(h + shift, d + shift, role) for h, d, role in more}
    return [*first, *link, *second], (edges, kinds | {word + shift: kind for word, kind in others.items()})


def step_loss(parser: OwnParser, batch: Sequence[Example]) -> torch.Tensor:
    numbers, endings, mask = parser.numbers([words for words, _ in batch])
    hidden = mask & (torch.rand(mask.shape) < 0.08)
    edges, kinds = parser.tagger(numbers.masked_fill(hidden, 1), endings, mask)
    role = torch.zeros(len(batch), mask.shape[1], mask.shape[1], dtype=torch.long)
    kind = torch.zeros(mask.shape, dtype=torch.long)
    for row, (_, (some, said)) in enumerate(batch):
        for head, dependent, number in some:
            role[row, head, dependent] = number
        for word, number in said.items():
            kind[row, word] = number
    both = mask[:, :, None] & mask[:, None, :]
    cross = torch.nn.functional.cross_entropy
    linked = cross(edges.permute(0, 2, 3, 1)[both], role[both], reduction="sum")
    return (linked + 0.5 * cross(kinds[mask], kind[mask], reduction="sum")) / mask.sum()


def measure(path: Path) -> None:
    examples, parse = read(path), own_parser()
    parse(["warm up"])
    began = time.perf_counter()
    parses = parse([caption for caption, _ in examples])
    seconds = time.perf_counter() - began
    print(f"{len(examples):,} captions, {len(examples) / seconds:,.0f} a second")
    for name, (right, said, true) in score(parses, [graph for _, graph in examples]).items():
        precision, recall = right / max(said, 1), right / max(true, 1)
        print(f"{name:12} P {precision:.3f}  R {recall:.3f}  F1 {2 * right / (said + true):.3f}")


def score(parses: Sequence[Parse], graphs: Sequence[list[Triple]]) -> dict[str, tuple[int, int, int]]:
    """(right, said, true) of things, attributes, ends and triples."""
    totals: dict[str, list[int]] = {name: [0, 0, 0] for name in ("things", "attributes", "ends", "triples")}
    for parse, graph in zip(parses, graphs, strict=True):
        links = [triple for triple in graph if triple[1] != "is"]
        true = {
            "things": [(name,) for name in {end for s, p, o in graph for end in ((s, o) if p != "is" else (s,))}],
            "attributes": [(s, o) for s, p, o in graph if p == "is"],
            "ends": [(s, o) for s, _, o in links],
            "triples": links,
        }
        said = {
            "things": [(name,) for name in set(parse.things)],
            "attributes": parse.attributes,
            "ends": [(s, o) for s, _, o in parse.triples],
            "triples": parse.triples,
        }
        for name, total in totals.items():
            left = [[tokenize(part) for part in item] for item in dict.fromkeys(true[name])]
            items = [[tokenize(part) for part in item] for item in dict.fromkeys(said[name])]
            total[1] += len(items)
            total[2] += len(left)
            for item in items:
                for want in left:
                    if all(alike(a, b) for a, b in zip(item, want, strict=True)):
                        left.remove(want)
                        total[0] += 1
                        break
    return {name: (right, said, true) for name, (right, said, true) in totals.items()}


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
