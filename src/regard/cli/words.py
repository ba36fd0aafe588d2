"""The verb words parse."""

import sys
from pathlib import Path
from typing import Annotated

import cyclopts
from cyclopts import Parameter

from regard.cli.common import Json, Png, SentenceParser, check_sentences, console, write_json

app = cyclopts.App(name="words", help="Parse sentences into words and their relations.", help_format="markdown")


@app.command(name="parse")
def parse_words(
    *sentences: str,
    file: Annotated[Path | None, Parameter(allow_leading_hyphen=True)] = None,
    by: SentenceParser = "own",
    json_: Json = None,
    png: Png = None,
) -> None:
    """Parse sentences and print their words and relations.

    Prints tokens, noun phrases, attributes and relations. `--json` also writes the edges between words and their roles,
    and `--png` draws the graph of each sentence.

    Parameters
    ----------
    sentences
        One or more sentences, each in quotes.
    file
        Text file with one sentence per line; - reads standard input.
    """
    from regard.data.lines import Lines
    from regard.words import parser

    if file is not None:
        sentences += tuple(sys.stdin.read().splitlines() if str(file) == "-" else Lines(file))
    check_sentences(sentences, "regard words parse")
    parses = parser(by)(sentences)
    for sentence, parse in zip(sentences, parses, strict=True):
        console.print(sentence)
        attributes = "; ".join(f"{thing}: {attribute}" for thing, attribute in parse.attributes)
        console.print(f"  tokens        {' '.join(parse.words) or '-'}")
        console.print(f"  noun phrases  {', '.join(parse.noun_phrases) or '-'}")
        console.print(f"  attributes    {attributes or '-'}")
        for triple in parse.triples:
            console.print(f"  relation      {' | '.join(triple)}")
    pairs = zip(sentences, parses, strict=True)
    write_json(json_, [{"sentence": sentence, **parse.to_dict()} for sentence, parse in pairs])
    if png:
        from regard.explain import draw_sentences

        draw_sentences(sentences, parses, png)
