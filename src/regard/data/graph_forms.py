"""Readers of files of scene graphs, one per published form. Each yields image ids with records of one form, our own.

A record has `labels`, one class per region; `relations` of subject, predicate, object and perhaps a confidence; and
perhaps `boxes`, `size` and `captions`. An error is a ValueError that says what is wrong with a record.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from regard.data.layout import read_json
from regard.data.pickles import read_pickle
from regard.files import InputError, parse_json

Named = Iterator[tuple[str, Any]]
INFO = "custom_data_info.json"  # beside Scene-Graph-Benchmark's custom_prediction.json
IMAGE_DATA = "image_data.json"  # beside Visual Genome's files: the sizes of images
WRAPPERS = ("images", "graphs", "data", "annotations")


def read_graphs(path: Path) -> Named:
    """Yield the id and the record of each image of a file in any known form, chosen by its content."""
    content = _load(path)
    if isinstance(content, dict) and "ind_to_classes" in content:
        raise InputError(f"{path} contains the names of classes and predicates: give custom_prediction.json instead.")
    if isinstance(content, dict) and len(content) <= 2:
        content = next((content[key] for key in WRAPPERS if isinstance(content.get(key), list | dict)), content)
    values = content.values() if isinstance(content, dict) else content if isinstance(content, list) else []
    first = next((value for value in values if value), None)  # the first that is not empty
    keys = set(first) if isinstance(first, dict) else set()
    if isinstance(content, dict):
        if {"bbox_labels", "rel_pairs"} <= keys:
            return _read_predictions(content, _beside(path, INFO))
        if isinstance(first, dict) and isinstance(first.get("objects"), dict):
            return _read_gqa(content)
        if isinstance(first, list) and isinstance(first[0], dict) and "predicate" in first[0]:
            return _read_vrd(content, _beside(path, "objects.json"), _beside(path, "predicates.json"))
        return iter((str(name), record) for name, record in content.items())
    if "relationships" in keys:
        return _read_visual_genome(content, _sizes(path.with_name(IMAGE_DATA)))
    if not isinstance(content, list):
        raise InputError(f"{path} contains {content!r:.40}: expected scene graphs, as docs/data.md shows.")
    return ((_id(record, place), record) for place, record in enumerate(content))


def _load(path: Path) -> Any:
    """JSON, JSON lines or a pickle of plain values, by the first byte."""
    try:
        with open(path, "rb") as file:
            start = file.read(64).lstrip(b"\xef\xbb\xbf \t\r\n")[:1]
    except (FileNotFoundError, IsADirectoryError):
        raise InputError(f"{path} is not a file: expected a file of scene graphs.") from None
    if start not in (b"{", b"[") and path.suffix not in (".json", ".jsonl"):
        return read_pickle(path)
    if path.suffix != ".jsonl":
        return read_json(path)
    try:
        records = [parse_json(line) for line in path.read_text("utf-8").split("\n") if line.strip()]
    except ValueError as error:
        raise InputError(f"{path} is not JSON with one record per line, in UTF-8 ({error}). Save it again.") from None
    return records[0] if len(records) == 1 and isinstance(records[0], list) else records


def _beside(path: Path, name: str) -> Any:
    """The JSON file of this name beside the graphs, which has the names of their numbers. Raises InputError."""
    other = path.with_name(name)
    if not other.exists():
        raise InputError(f"{path} contains numbers for names, which are those of {name}: put that file beside it.")
    return read_json(other)


def _id(record: Any, place: int) -> str:
    if not isinstance(record, dict):
        raise ValueError(f"record {place} is {record!r:.40}: expected a scene graph with an id")
    name = next((record[key] for key in ("id", "image_id") if key in record), None)
    if not isinstance(name, str | int):
        raise ValueError(f"record {place} has the id {name!r}: expected `id`, a name or a number")
    return str(name)


def _read_visual_genome(records: Sequence[Any], sizes: Mapping[Any, Any]) -> Named:
    """Visual Genome's relationships.json, whose regions are the subjects and objects, or its scene_graphs.json."""
    for place, record in enumerate(records):
        name = _id(record, place)
        things: dict[Any, tuple[int, str, list[Any]]] = {}
        relations = []
        for thing in record.get("objects", ()):
            things.setdefault(thing["object_id"], (len(things), _name(thing), _corners(thing)))
        for relation in record["relationships"]:
            ends = []
            for role in ("subject", "object"):
                thing = relation.get(role)
                key = relation[f"{role}_id"] if thing is None else thing["object_id"]
                if thing is not None:
                    things.setdefault(key, (len(things), _name(thing), _corners(thing)))
                ends.append(things[key])
            # Visual Genome has objects without a name and relations without a predicate, which say nothing.
            if relation["predicate"].strip() and all(label != "none" for _, label, _ in ends):
                relations.append([ends[0][0], relation["predicate"], ends[1][0]])
        image_id = record.get("image_id", record.get("id"))
        yield name, _record(list(things.values()), relations, sizes.get(image_id))


def _name(thing: Mapping[str, Any]) -> str:
    """The name, or the word of the synset, as `man` of `man.n.01`; "none" if there is neither."""
    name = thing["name"] if "name" in thing else next(iter(thing["names"]), "")
    synset = next(iter(thing.get("synsets") or ()), "")
    return name.strip() or synset.partition(".")[0].replace("_", " ") or "none"


def _corners(thing: Mapping[str, Any]) -> list[Any]:
    return [thing["x"], thing["y"], thing["x"] + thing["w"], thing["y"] + thing["h"]]


def _record(things: Sequence[tuple[int, str, list[Any]]], relations: list[Any], size: Any) -> dict[str, Any]:
    labels, boxes = [label for _, label, _ in things], [box for *_, box in things]
    return {"labels": labels, "boxes": boxes, "relations": relations, "size": size}


def _sizes(path: Path) -> dict[Any, list[Any]]:
    """Width and height by image id, which version 1.0 of Visual Genome calls `id`. Empty if there is no such file."""
    try:
        records = read_json(path) if path.exists() else []
        return {each.get("image_id", each.get("id")): [each["width"], each["height"]] for each in records}
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{path} is not in the form of Visual Genome ({type(error).__name__}: {error}): expected image_id, width "
            f"and height of each image."
        ) from None


def _read_gqa(records: Mapping[str, Any]) -> Named:
    for name, record in records.items():
        objects = record["objects"]
        places = {key: place for place, key in enumerate(objects)}
        things = [(places[key], _name(thing), _corners(thing)) for key, thing in objects.items()]
        relations = [
            [places[key], relation["name"], places[relation["object"]]]
            for key, thing in objects.items()
            for relation in thing.get("relations", ())
        ]
        yield name, _record(things, relations, [record["width"], record["height"]])


def _read_predictions(records: Mapping[str, Any], info: Mapping[str, Any]) -> Named:
    """Scene-Graph-Benchmark's custom_prediction.json: numbers, whose names are in its info file."""
    classes, predicates, files = (info[key] for key in ("ind_to_classes", "ind_to_predicates", "idx_to_files"))
    for place, record in records.items():
        pairs, labels = record["rel_pairs"], record["rel_labels"]
        scores = record.get("rel_scores", [1.0] * len(pairs))
        relations = [
            [subject, predicates[label], other, score]
            for (subject, other), label, score in zip(pairs, labels, scores, strict=True)
        ]
        name = PurePosixPath(files[int(place)].replace("\\", "/")).name
        classes_of = [classes[label] for label in record["bbox_labels"]]
        yield name, {"labels": classes_of, "boxes": record["bbox"], "relations": relations}


def _read_vrd(records: Mapping[str, Any], classes: Sequence[str], predicates: Sequence[str]) -> Named:
    """VRD's annotations: boxes are y1 y2 x1 x2, and a region is an equal class and box."""
    for name, listed in records.items():
        things: dict[tuple[Any, ...], tuple[int, str, list[Any]]] = {}
        relations = []
        for relation in listed:
            ends = []
            for thing in (relation["subject"], relation["object"]):
                top, bottom, left, right = thing["bbox"]
                key = (thing["category"], top, bottom, left, right)
                new = (len(things), classes[thing["category"]], [left, top, right, bottom])
                ends.append(things.setdefault(key, new)[0])
            relations.append([ends[0], predicates[relation["predicate"]], ends[1]])
        yield name, _record(list(things.values()), relations, None)
