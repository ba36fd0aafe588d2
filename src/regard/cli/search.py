"""The verb search."""

from regard.cli.common import Device, Json, Run, RunData, SplitName, check_sentences, console, write_json


def search(
    run: Run,
    *sentences: str,
    data: RunData = None,
    split: SplitName = "test",
    count: int = 10,
    shortlist: int = 100,
    json_: Json = None,
    device: Device = "auto",
) -> None:
    """Find the images that match a sentence best.

    Parameters
    ----------
    sentences
        One or more sentences, each in quotes.
    count
        Number of images per sentence.
    shortlist
        Number of images per sentence that are scored exactly, chosen by summary vectors. 0: all images.
    """
    from regard.runtime import device_named
    from regard.search.gallery import Gallery
    from regard.training.trained_run import TrainedRun

    check_sentences(sentences, "regard search RUN")
    trained = TrainedRun(run, device_named(device))
    opened = trained.open_split(split, data)
    with console.status(f"reading {opened.num_images:,} images"):
        results = Gallery.of_split(trained.model, opened).search_sentences(sentences, count, shortlist or None)
    for sentence, hits in zip(sentences, results, strict=True):
        console.print(sentence, markup=False)
        for hit in hits:
            captions = (opened.captions[row] for row in (opened.image_of_text == hit.image).nonzero()[0])
            console.print(f"  {hit.score:8.4f}  {hit.id}  {next(captions, '')}", markup=False)
    hits_of = dict(zip(sentences, results, strict=True))
    write_json(json_, {sentence: [vars(hit) for hit in hits] for sentence, hits in hits_of.items()})
