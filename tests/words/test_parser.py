"""Who does what to whom: the parser that comes with Regard, spaCy's labels as roles, and what is stored."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

from regard.data import Split
from regard.files import InputError
from regard.relations.from_sentences import parse_split
from regard.scenes.grammar import FORMS
from regard.words import ROLES, Vocabulary, tokenize
from regard.words.parser import ATTRIBUTE, MODIFIER, OBJECT, SUBJECT, Parse, own_parser, parser, roles_of

ROOT = Path(__file__).parents[2]
FACTUAL = ROOT.parent / "shared" / "real" / "caption_graphs" / "dev.csv"


@pytest.fixture(scope="module")
def bench():
    """benchmarks/parser.py, which measures."""
    spec = importlib.util.spec_from_file_location("parser_bench", ROOT / "benchmarks" / "parser.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def parse(sentence: str) -> Parse:
    return own_parser()([sentence])[0]


def test_roles_are_those_that_files_and_models_number():
    assert ROLES == ("none", "subject", "object", "attribute", "modifier")
    assert [ROLES[role] for role in (SUBJECT, OBJECT, ATTRIBUTE, MODIFIER)] == list(ROLES[1:])


def test_who_does_what_to_whom():
    there, back = parse("a dog chasing a man"), parse("A man chasing a dog.")
    assert there.triples == [("dog", "chasing", "man")]
    assert back.triples == [("man", "chasing", "dog")]
    assert there.things == ["dog", "man"]


def test_things_attributes_and_names_of_several_words():
    found = parse("a tall man in a red hat is next to the fire hydrant")
    assert found.things == ["man", "hat", "fire hydrant"]
    assert set(found.attributes) == {("man", "tall"), ("hat", "red")}
    assert ("man", "next to", "fire hydrant") in found.triples


def test_the_passive_is_turned_and_having_is_said_the_same_way():
    assert parse("the hat is worn by the man").triples == [("man", "worn", "hat")]
    assert parse("the man's hat").triples == [("man", "have", "hat")]
    assert parse("leg of the table").triples == [("table", "have", "leg")]


@pytest.mark.parametrize("predicate", FORMS)
def test_every_form_of_the_made_world_says_its_fact(predicate, bench):
    """But one, whose predicate comes out a word short."""
    for form in FORMS[predicate]:
        said = bench.stated_triple(form)
        found = parse(form.format(s="a big red dog", o="a man in blue")).triples
        names = {"{s}": "dog", "{o}": "man"}
        if said is None:
            assert {("dog", "man"), ("man", "dog")}.isdisjoint((s, o) for s, _, o in found)
            continue
        ends = names[said[0]], names[said[2]]
        assert ends in [(s, o) for s, _, o in found], form
        if "stands to the right of" not in form:
            assert (ends[0], said[1], ends[1]) in found, form


@pytest.mark.real
@pytest.mark.skipif(not FACTUAL.exists(), reason="FACTUAL is not beside the project")
def test_factual_is_parsed_well(bench):
    examples = bench.read_captions(FACTUAL)
    counts = bench.count_matches(own_parser()([caption for caption, _ in examples]), [graph for _, graph in examples])
    found = {name: 2 * right / (said + true) for name, (right, said, true) in counts.items()}
    for name, floor in (("things", 0.93), ("attributes", 0.80), ("ends", 0.80), ("triples", 0.73)):
        assert found[name] > floor


def test_the_measure_knows_right_from_wrong(bench):
    graph = bench.parse_graph("( man , ride , horses ) , ( horses , is , 2 ) , ( broken )")
    assert graph == [("man", "ride", "horses"), ("horses", "is", "2")]
    words = tuple(tokenize("men riding two horses"))
    edges, kinds = bench.label_words(words, [("men", "ride", "horses"), ("horses", "is", "2")])
    assert edges == {(1, 0, SUBJECT), (1, 3, OBJECT), (3, 2, ATTRIBUTE)}
    whole = Parse(words, tuple(kinds.get(place, 0) for place in range(4)), tuple(sorted(edges)))
    gold = [("men", "ride", "horses"), ("horses", "is", "2")]
    assert bench.count_matches([whole], [gold]) == {
        "things": (2, 2, 2), "attributes": (1, 1, 1), "ends": (1, 1, 1), "triples": (1, 1, 1)
    }  # fmt: skip
    turned = Parse(words, whole.kinds, ((1, 0, OBJECT), (1, 3, SUBJECT)))
    assert bench.count_matches([turned], [gold])["ends"] == (0, 1, 1)
    assert bench.same_words(["sitting"], ["sit"])
    assert not bench.same_words(["king"], ["ked"])


def test_any_sentence_is_parsed_and_the_company_it_is_in_does_not_matter():
    odd = ["", "?!", "dog", "köpek 犬 dog's", "a " * 200, "a dog chasing a man"]
    together = own_parser()(odd)
    assert [list(found.words) for found in together] == [tokenize(text) for text in odd]
    assert [parse(text) for text in odd] == together
    assert together[0] == Parse((), (), ())
    for found in together:
        assert all(head != dependent for head, dependent, _ in found.edges)
        assert all(max(edge[:2]) < len(found.words) and 1 <= edge[2] < len(ROLES) for edge in found.edges)


# spaCy


def test_spacys_dependencies_become_roles():
    tokens_module = pytest.importorskip("spacy.tokens", reason="spaCy is not installed")
    vocab = importlib.import_module("spacy.vocab").Vocab()
    words = ["a", "man", "in", "red", "hats", "is", "bitten", "by", "dogs"]
    doc = tokens_module.Doc(
        vocab,
        words,
        heads=[1, 6, 1, 4, 2, 6, 6, 6, 7],
        deps=["det", "nsubjpass", "prep", "amod", "pobj", "auxpass", "ROOT", "agent", "pobj"],
        pos=["DET", "NOUN", "ADP", "ADJ", "NOUN", "AUX", "VERB", "ADP", "NOUN"],
        tags=["DT", "NN", "IN", "JJ", "NNS", "VBZ", "VBN", "IN", "NNS"],
    )
    found = roles_of(doc)
    assert set(found.triples) == {("man", "in", "hats"), ("dogs", "bitten", "man")}
    assert found.attributes == [("hats", "red")]
    assert found.things == ["man", "hats", "dogs"]


def test_spacy_that_is_not_there_is_told_in_one_line():
    if importlib.util.find_spec("spacy"):
        pytest.skip("spaCy is installed")
    with pytest.raises(InputError, match=r"needs spaCy: pip install spacy.* The parser own needs nothing"):
        parser("spacy")


# Stored


@pytest.fixture
def data(tmp_path):
    captions = ["a dog chasing a man", "snow", "a red hat", "the man's hat"]
    np.save(tmp_path / "dev_ims.npy", np.ones((2, 3, 4), np.float16))
    (tmp_path / "dev_ids.txt").write_text("one\ntwo\n")
    (tmp_path / "dev_caps.txt").write_text("".join(f"{caption}\n" for caption in captions))
    return tmp_path


def test_a_parse_is_stored_beside_the_sentences_and_read_as_roles(data):
    assert parse_split(data, "dev") == pytest.approx(1.0)
    split = Split.open(data, "dev")
    assert {"roles", "text_relations"} <= split.fields
    texts = split.texts([0, 1, 2], Vocabulary.build(split.captions, min_count=1))
    dense = texts.relations.numpy()
    assert [tuple(place) for place in np.argwhere(dense[0])] == [(3, 2), (3, 5)]  # <start> is word 0
    assert dense[0, 3, 2] == SUBJECT
    assert dense[0, 3, 5] == OBJECT
    assert not dense[1].any()
    assert dense[2, 3, 2] == ATTRIBUTE
    with pytest.raises(InputError, match=r"text_relations\.npz already exists: remove it"):
        parse_split(data, "dev")


def test_other_labels_are_relations_but_no_roles(data):
    columns = {"text": [0], "head": [1], "dependent": [2], "label": [1]}
    np.savez(data / "dev_text_relations.npz", **columns, labels=np.array(["none", "depends"]))
    fields = Split.open(data, "dev").fields
    assert "text_relations" in fields
    assert "roles" not in fields


def test_a_long_sentence_costs_no_more_than_64_words(monkeypatch):
    """The pairs of words are bounded, for one sentence and for a batch."""
    read, sizes = parser(), []
    forward = type(read.tagger).forward

    def measured(tagger, words, *rest):
        sizes.append(words.shape[0] * words.shape[1] ** 2)
        return forward(tagger, words, *rest)

    monkeypatch.setattr(type(read.tagger), "forward", measured)
    long, short = "a dog runs after a man " * 300, "a dog runs after a man"
    parses = read([short, long, *[long] * 200, short])
    assert max(sizes) <= 2**18
    assert len(sizes) > 2
    assert parses[0] == parses[-1] == read([short])[0]
    assert len(parses[1].words) == len(parses[1].kinds) == 1800
    assert 0 < max(dependent for _, dependent, _ in parses[1].edges) < 64
    assert set(parses[0].edges) <= set(parses[1].edges)
