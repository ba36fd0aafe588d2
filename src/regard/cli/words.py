"""The verb words parse."""

import sys
from pathlib import Path
from typing import Annotated, Literal

import cyclopts
from cyclopts import Parameter

from regard.cli.common import Json, Png, console, write_json
from regard.files import InputError

app = cyclopts.App(name="words", help="Parse sentences into words and their relations.", help_format="markdown")


@app.command(name="parse")
def parse_words(
    *sentences: str,
    file: Annotated[Path | None, Parameter(allow_leading_hyphen=True)] = None,
    by: Literal["own", "spacy"] = "own",
    json_: Json = None,
    png: Png = None,
) -> None:
    """Say what is in sentences: tokens, things, what they are like, and who does what to whom.

    Parameters
    ----------
    sentences
        One or more, each in quotes.
    file
        A text file of sentences, one a line; - is standard input.
    by
        own: the small parser that comes with Regard. spacy: spaCy's English model, where it is installed.
    json_
        Write all of it there, with the edges between words and their roles.
    png
        Draw the sentences' graphs there.
    """
    from regard.data.lines import Lines
    from regard.words import parser

    if file is not None:
        sentences += tuple(sys.stdin.read().splitlines() if str(file) == "-" else Lines(file))
    if not sentences:
        raise InputError('Give at least one sentence, in quotes: regard words parse "a man rides a horse".')
    parses = parser(by)(sentences)
    for sentence, found in zip(sentences, parses, strict=True):
        console.print(sentence, markup=False)
        attributes = "; ".join(f"{thing}: {what}" for thing, what in found.attributes)
        console.print(f"  tokens        {' '.join(found.words) or '-'}", markup=False)
        console.print(f"  noun phrases  {', '.join(found.noun_phrases) or '-'}", markup=False)
        console.print(f"  attributes    {attributes or '-'}", markup=False)
        for triple in found.triples:
            console.print(f"  relation      {' | '.join(triple)}", markup=False)
    told = zip(sentences, parses, strict=True)
    write_json(json_, [{"sentence": sentence, **found.to_dict()} for sentence, found in told])
    if png:
        from regard.explain import draw_sentences

        draw_sentences(sentences, parses, png)
