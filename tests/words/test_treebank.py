import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regard.words import tokenize_treebank

# Sentences, and the tokens of NLTK 3.10 for them, separated by spaces.
SENTENCES = {
    "": "",
    "A man's red T-shirt .": "a man 's red t-shirt .",
    "Two dogs, one black;one white: they're running!": "two dogs , one black ; one white : they 're running !",
    'A sign reads "no dogs", he says "hi"': "a sign reads `` no dogs '' , he says `` hi ''",
    '"Stop" is a sign': "`` stop '' is a sign",
    "it isn't 3,000 at 10:30": "it is n't 3,000 at 10:30",
    "the boys' 'red' hats": "the boys ' ' red ' hats",
    "in the '90s we can't, cannot": "in the ' 90s we ca n't , can not",
    "a man. he runs... fast": "a man . he runs ... fast",
    "he ran.) and (fell).": "he ran . ) and ( fell ) .",
    "mr. smith of the u.s. navy eats no. 5": "mr. smith of the u.s. navy eats no . 5",
    "miami u. player": "miami u. player",
    "a $5 hat & 50% off #1 @home": "a $ 5 hat & 50 % off # 1 @ home",
    "one -- two – three—four, t-shirt": "one -- two – three — four , t-shirt",
    "gonna wanna go": "gon na wan na go",
    "‘left’ and “right”": "‘ left ’ and “ right ”",
    "a\tb  c\u00a0d": "a b c d",
}


@pytest.mark.parametrize(("sentence", "tokens"), SENTENCES.items())
def test_tokens_are_those_of_nltk(sentence, tokens):
    assert tokenize_treebank(sentence) == tokens.split()


def test_the_list_is_nltks():
    """Of single sentences, which need none of NLTK's data."""
    nltk = pytest.importorskip("nltk.tokenize.destructive", reason="nltk is absent")
    tokenizer = nltk.NLTKWordTokenizer()
    for sentence in SENTENCES:
        if not re.search(r"\.\)? ", sentence):
            assert tokenize_treebank(sentence) == tokenizer.tokenize(sentence.lower()), sentence


@given(st.text(st.sampled_from("ab'\".,:;-!?()[] $%&’“\n\t1"), max_size=40))
def test_nothing_changes_but_quotation_marks_and_spaces(text):
    without = str.maketrans("", "", "'\"`")
    kept = "".join(tokenize_treebank(text))
    assert kept.translate(without) == "".join(text.split()).translate(without)
