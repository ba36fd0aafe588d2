"""Run the commands that people run on the files that people have, and compare with what they expect.

    python benchmarks/faults/cases.py CASES [--only PATTERN]

CASES is a folder of folders of small inputs: tables of sentences, records of detectors, data folders, scene graphs and
score matrices. The commands, and what each must end with, are below: an exit code, and a pattern of the output, which
for converted data includes a summary of what was written. A case is good if both are as expected and no traceback is
printed. Folders that are not listed below are not run.
"""

import argparse
import contextlib
import io
import re
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Iterator, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import NamedTuple

import numpy as np

from regard.cli import main as regard
from regard.data import Split
from regard.data.layout import splits_of

READ, REFUSED, FAULTY = 0, 2, 1  # exit codes: `data check` ends with 1 for errors

# By the name of a file: the sentences of each of the four photographs, and what is printed beside the numbers.
TABLES = {
    "cn_pos.txt": "2 2 2 2",
    "csv_inch.csv": "6 5 5 5",
    "dataset_flickr30k.json": "5 5 5 5.*train.*2 photographs.*dev.*1 photographs.*test.*1 photographs",
    "latin1.csv": (REFUSED, "iconv -f latin1"),
    "results.csv": "5 4 5 5.*1 row of the table skipped, such as line 9",
    "tab_in_sentence.csv": "6 5 5 5",
    "token_quotes.txt": "6 5 5 5",
    "unequal.txt": "3 6 5 0.*1 sentences skipped.*2258277193_586949ec62",
    "*": "5 5 5 5",
}
FIRST_BOX = r"box 0\.3185 0\.4066 0\.5395 0\.7511"
RECORDS = {
    "bua-tsv-broken-record/[ac]_*": rf"4 images.*{FIRST_BOX}.*1 line is skipped",
    "bua-tsv-broken-record/[de]_*": "3 images.*1 line is skipped",
    "bua-tsv-broken-record/g_*": rf"4 images.*{FIRST_BOX}.*it is blank",
    "bua-tsv-broken-record/i_*": rf"4 images.*{FIRST_BOX}",
    "lxmert-tsv/lxmert": rf"3 images.*size 640 480 labels 1361.*{FIRST_BOX}",
    "lxmert-tsv/vinvl": rf"2 images, 4 x 8.*{FIRST_BOX}",
    "lxmert-tsv/*": rf"3 images.*{FIRST_BOX}",
    "npz-variants/att_box_npz": "3 images, 4 x 8.*boxes are left out",
    "npz-variants/cocobu": "3 images, 4 x 8.*boxes are left out",
    "npz-variants/bbox_no_size": "3 images, 4 x 8.*boxes are left out",
    "npz-variants/openvqa_columns_no_bbox": (REFUSED, "unknown whether regions are rows or columns"),
    "npz-variants/openvqa_columns_bbox": rf"3 images, 6 x 8.*{FIRST_BOX}",
    "npz-variants/padded_to_100": rf"3 images, 6 x 8.*{FIRST_BOX}",
    "npz-variants/uniter": r"3 images, 4 x 8.*box 0\.3184 0\.4067",
    "npz-variants/*": rf"3 images, 4 x 8.*{FIRST_BOX}",
    "records-edges/npz_bbox_five_columns": (REFUSED, r"391895.npz has boxes \[4, 5\]"),
    "records-edges/npz_bbox_flat": (REFUSED, r"391895.npz has boxes \[16\]"),
    "records-edges/npz_bbox_fewer_rows": (REFUSED, r"391895.npz has boxes \[3, 4\]"),
    "records-edges/npz_no_regions": (REFUSED, "522418.npz has 0 regions"),
    "records-edges/npz_num_bbox_zero": (REFUSED, "522418.npz has 0 regions"),
    "records-edges/npz_object_x": (REFUSED, "391895.npz contains Python objects"),
    "records-edges/npz_x_three_dims": (REFUSED, r"391895.npz has x \[1, 4, 8\]"),
    "records-edges/tsv_float64": (REFUSED, "f.tsv, line 1 has boxes in float64"),
    "records-edges/tsv_features_float16": (REFUSED, "f.tsv, line 1 has features in float16"),
    "records-edges/tsv_no_boxes_of_one": (REFUSED, "'522418' has no whole record.*it has 0 regions"),
    "records-edges/tsv_height_width_swapped": "fit if width and height of the images are exchanged",
    "records-edges/*_xywh": "these boxes look like x y width height",
    "records-edges/npz_bbox_not_all": "boxes are left out, because 1 of 3 images, such as '522418'",
    "records-edges/npz_bbox_only_some": "boxes are left out, because 1 of 3 images, such as '391895'",
    "records-edges/npz_first_without_sizes_later_with": "boxes are left out, because 1 of 3 images, such as '391895'",
    "records-edges/npz_size_zero": "boxes are left out, because 3 of 3 images",
    "records-edges/npz_float16": "3 images, 4 x 8",
    "records-edges/*": rf"3 images, 4 x 8.*{FIRST_BOX}",
    "precomp-captions/hdf5": (REFUSED, "is a file of HDF5, which is not read. Write one .npz"),
    "precomp-captions/lmdb": (REFUSED, "is a file of LMDB, which is not read. Write one .npz"),
}
SOUND = "test +3 +15 .*0 errors and 0 warnings"
FOLDERS = {
    "precomp-captions/ar": "test +3 +15 .*0 errors",
    "precomp-captions/de": "test +3 +15 .*0 errors",
    "precomp-captions/blank_between": (FAULTY, "line 2: 14 empty sentences. Remove the line"),
    "precomp-captions/box_pixels_wh_swapped": SOUND,  # no box reaches beyond the image
    "precomp-captions/box_six": (FAULTY, "Keep only these four columns"),
    "precomp-captions/box_thousand": (FAULTY, "or boxes as fractions"),
    "precomp-captions/box_xywh": "these boxes look like x y width height",
    "precomp-captions/caps_bytes": "look like b'...', as Python 3 prints bytes",
    "precomp-captions/fractions_over_two": (FAULTY, "boxes outside the image"),
    "precomp-captions/ids_0_to_14_rows": "12 images have the features of the image before.*captions_per_image=5",
    "precomp-captions/ims_2d": (FAULTY, "Save one vector per image as"),
    "precomp-captions/ims_concat": (FAULTY, "pad regions of all images in one list"),
    "precomp-captions/ims_5x": (FAULTY, "stored 5 times, pass captions_per_image=5"),
    "precomp-captions/ims_fortran": (FAULTY, "ascontiguousarray"),
    "precomp-captions/ims_grid": (FAULTY, r"a\.reshape\("),
    "precomp-captions/ims_object": (FAULTY, "contains Python objects"),
    "precomp-captions/unequal*": (FAULTY, "has 3 rows and test_caps.txt 14 lines: expected"),
    "precomp-captions/zh": "script without spaces",
    "precomp-captions/zh_pos": "contain parts of speech",
    "precomp-captions/*": SOUND,
    "languages/whole": "script without spaces.*do not look like English",
    "languages/spaced": "0 errors and 0 warnings",
}
PER_IMAGE = dict.fromkeys(("ids_0_to_14_rows", "ims_5x", "ids_a_sentence", "ids_hash"), SOUND)
GRAPH = "labels 3 2 1 3 relations 0-1"
GRAPHS = {
    "custom_data_info.json": (REFUSED, "give custom_prediction.json instead"),
    "custom_prediction.json": "labels 3 2 1 3 relations 0-1 1-2",
    "mine_five.json": (REFUSED, "record '1007129816.jpg': the relation .* perhaps a confidence"),
    "mine_percent.json": (REFUSED, "the confidence 90: expected 0 to 1"),
    "p_sure_*.json": (REFUSED, "the confidence .*: expected 0 to 1"),
    "*label*numbers.json": (REFUSED, "record '1007129816.jpg': label 0 is 1: expected the name"),
    "p_labels_dicts.json": (REFUSED, "record '1007129816.jpg': label 0 is {'name'"),
    "p_labels_mixed.json": (REFUSED, "record '1007129816.jpg': label 1 is 2: expected the name"),
    "p_names_not_numbers.json": (REFUSED, "a relation of 'man': expected the number"),
    "p_predicate_*.json": (REFUSED, "has the predicate .*: expected a name"),
    "p_subject_object_first.json": (REFUSED, "has the predicate 1: expected a name in the middle"),
    "p_relation_*.json": (REFUSED, "a relation of region .* among 4 labels"),
    "p_triple_*.json": (REFUSED, "the triple .* of a caption"),
    "p_dict_of_null.json": (REFUSED, "it is None: expected a scene graph"),
    "p_null_record.json": (REFUSED, "record 0 is None"),
    "p_empty.json": (REFUSED, "contains no scene graphs"),
    "p_text.json": (REFUSED, "contains 'x': expected scene graphs"),
    "p_self.json": "labels 3 2 1 3 relations ;",
    "p_wrapped.json": "labels 3 2 1 3 relations ;",
    "ordered.pkl": (REFUSED, "names collections.OrderedDict"),
    "gqa_sceneGraphs.json": (REFUSED, "images are called '1007129816.jpg', .* those of the graphs '2407890'"),
    "*": GRAPH,
}
ANNOTATIONS = {
    "gqa_sceneGraphs.json": (REFUSED, "3 images, 6 relations of 2 .* too few to hold out one image in ten"),
    "custom_prediction.json": (REFUSED, "3 images, 6 relations of 2 .* too few to hold out one image in ten"),
    "p_captions_texts.json": (REFUSED, "3 images, 3 relations of 1 .* too few to hold out one image in ten"),
    "v1.*/relationships.json": "12 images, 24 relations of 2 predicates between 3 classes",
    "scene_graphs/scene_graphs.json": "12 images, 24 relations of 2 predicates between 3 classes",
    "vg_*/relationships.json": "12 images, 24 relations of 2 predicates between 3 classes",
}
MATRICES = {
    "clip_texts_by_images.npy": (REFUSED, "transposed"),
    "int8.npy": (REFUSED, "expected float16, float32 or float64"),
    "nan.npy": (REFUSED, "NaN"),
    "rows_repeated.npy": (REFUSED, "images have no text|have no text"),
    "sims3d.npy": (REFUSED, "expected a matrix"),
    "ok.csv": (REFUSED, "expected a complete file written by numpy.save"),
    "ok.np[z]": (REFUSED, "expected a complete file written by numpy.save"),
    "ok.pt": (REFUSED, "expected a complete file written by numpy.save"),
    "map_diag.npy": (REFUSED, "80 texts point outside the 20 images"),
    "map_from1.npy": (REFUSED, "5 texts point outside the 20 images"),
    "map_gap.npy": (REFUSED, "1 of 20 images have no text"),
    "map_s[eq]*.npy": (REFUSED, "image_of_text has (35|20) entries"),
    "map_[bcfis]*.npy": (REFUSED, "expected a vector of integers"),
    "*": "rSum",
}


class Case(NamedTuple):
    """A command, and what is expected of it."""

    name: str
    command: list[str | Path]
    code: int
    pattern: str
    out: Path | None = None  # a data folder that the command writes, which is summarized


def cases(folder: Path, work: Path) -> Iterator[Case]:
    """Yield the cases of a folder. `work` is an empty folder for what the commands write."""
    captions, graphs, matrices = (folder / name for name in ("caption-tables", "scene-graph-files", "score-matrices"))
    for number, path in enumerate(sorted(path for path in captions.glob("*.*"))):
        out = work / f"extract{number}"
        command = ["extract", captions / "photos", "--out", out, "--captions", path, "--regions", "3"]
        yield Case(f"{captions.name}/{path.name}", command, *expected(path.name, TABLES), out)
    for number, path in enumerate(sorted(path for path in folder.glob("*/*") if path.is_dir())):
        name, out = f"{path.parent.name}/{path.name}", work / f"convert{number}"
        if path.name == "sugarcrepe":
            table = next(path.glob("*.json"))
            trained, data = tiny_run(work, re.findall(r"\d{12}\.jpg", table.read_text())[0])
            yield Case(name, ["twins", trained, "--data", data, "--pairs", table], READ, "all +1 ")
        elif code_and_pattern := expected(name, RECORDS, ()):
            yield Case(name, ["data", "convert", path, "--out", out], *code_and_pattern, out)
        elif code_and_pattern := expected(name, FOLDERS, ()):
            yield Case(name, ["data", "check", path], *code_and_pattern)
        if path.name in PER_IMAGE:
            command = ["data", "check", path, "--captions-per-image", "5"]
            yield Case(f"{name} (5 per image)", command, *expected(path.name, PER_IMAGE))
        if name == "languages/whole":
            command = ["train", "vse-infinity-f8k", "--data", path, "--out", work / "train"]
            yield Case(f"{name} (train)", command, REFUSED, "script without spaces")
    for number, path in enumerate(sorted([*graphs.glob("*.*"), *graphs.glob("*/*.json")])):
        name, out = path.relative_to(graphs).as_posix(), work / f"graphs{number}"
        if path.is_dir() or path.name == "image_data.json":
            continue
        if path.parent == graphs:
            command = ["data", "convert", graphs / "data", "--out", out, "--scene-graphs", path]
            yield Case(f"{graphs.name}/{name}", command, *expected(name, GRAPHS), out)
        if code_and_pattern := expected(name, ANNOTATIONS, ()):
            # Names must occur ten times by default; these files are small.
            limits = ["--classes", "9", "--predicates", "9"]
            command = ["relations", "fit", path, "--out", work / f"{number}.safetensors", *limits]
            yield Case(f"{graphs.name}/{name} (fit)", command, *code_and_pattern)
    for path in sorted(matrices.glob("*.*")):
        own = matrices / f"map_{path.stem.partition('_')[0]}.npy"
        pair = (path, own if own.exists() else matrices / "map.npy")
        command = ["metrics", *((matrices / "ok.npy", path) if path.name.startswith("map") else pair)]
        yield Case(f"{matrices.name}/{path.name}", command, *expected(path.name, MATRICES))
    if (first := matrices / "lavis_i2t.npy").exists():
        second = matrices / "clip_texts_by_images.npy"
        command = ["metrics", first, matrices / "map.npy", "--text-to-image", second]
        yield Case(f"{matrices.name}/two matrices", command, READ, "rSum")


def expected(name: str, table: dict[str, str | tuple[int, str]], default: Sequence = (READ, "")) -> Sequence:
    """The exit code and the pattern of the first entry that fits a name."""
    entry = next((value for pattern, value in table.items() if fnmatch(name, pattern)), None)
    if entry is None:
        return default
    return (READ, entry) if isinstance(entry, str) else entry


def run(case: Case) -> tuple[int, str]:
    """Return the exit code and the output of a command; the code is -1 and the output a traceback if it crashes."""
    text = io.StringIO()
    sys.argv = ["regard", *map(str, case.command)]
    code, written = READ, ""
    with contextlib.redirect_stdout(text), contextlib.redirect_stderr(text):
        try:
            regard()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(bool(end.code))
        except BaseException:
            traceback.print_exc(file=text)
            code = -1
        if code == READ and case.out:
            try:
                written = f"{summary(case.out)}; "
            except Exception as error:
                code, written = -1, f"what was written cannot be read: {error}; "
    return code, written + text.getvalue()


def summary(folder: Path) -> str:
    """The numbers, and the inputs of the first image, of a data folder that was written; sentences by image."""
    parts, counts = [], Counter[str]()
    for name in splits_of(folder):
        split = Split.open(folder, name)
        for image, own in zip(split.ids, np.bincount(split.image_of_text, minlength=split.num_images), strict=True):
            counts[image] = int(own)
        images = split.images([0])
        parts.append(f"{name}: {split.num_images} images, {split.num_regions} x {split.feature_dim}")
        if split.sizes is not None:
            parts.append("size {} {}".format(*split.sizes[0]))
        if images.labels is not None:
            parts.append("labels " + " ".join(map(str, images.labels[0].tolist())))
        if images.boxes is not None:
            parts.append("box " + " ".join(f"{value:.4f}" for value in images.boxes[0, 0].tolist()))
        if images.relations is not None:
            pairs = images.relations[0].nonzero().tolist()
            parts.append("relations " + " ".join(f"{subject}-{other}" for subject, other in pairs))
    return " ".join(str(counts[image]) for image in sorted(counts)) + " sentences " + " ".join(parts)


def tiny_run(work: Path, image: str) -> tuple[Path, Path]:
    """Train a small run, and return it with its data folder, in which the first image has the id `image`."""
    data, trained = work / "scenes", work / "trained"
    sizes = ["--train", "24", "--dev", "8", "--test", "8", "--pictures", "0"]
    settings = [part for each in ("train.epochs=1", "scan.dim=16", "train.batch_size=8") for part in ("--set", each)]
    for command in (["data", "scenes", "--out", data, *sizes],
                    ["train", "scan-scenes", "--data", data, "--out", trained, *settings]):  # fmt: skip
        code, output = run(Case("", command, READ, ""))
        if code:
            raise RuntimeError(output)
    ids = data / "test_ids.txt"
    ids.write_text("\n".join([image, *ids.read_text().splitlines()[1:]]) + "\n")
    return trained, data


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", default="*", help="pattern of the names of cases to run")
    given = parser.parse_args()
    verdicts = Counter[str]()
    with tempfile.TemporaryDirectory() as work:
        for case in cases(given.folder, Path(work)):
            if not fnmatch(case.name, given.only):
                continue
            code, output = run(case)
            flat = " ".join(output.split())
            is_good = code == case.code and re.search(case.pattern, flat) and "Traceback" not in output
            verdicts["good" if is_good else "not good"] += 1
            print(f"{'good' if is_good else 'NOT GOOD':9} {case.name}", flush=True)
            if not is_good:
                print(f"          expected {case.code} and {case.pattern!r}\n          got {code}: {flat[-600:]}")
    print(f"{verdicts['good']} good, {verdicts['not good']} not good")
    sys.exit(verdicts["not good"] > 0)


if __name__ == "__main__":
    main()
