"""The relations of an extracted split: geometric, predicted, or none."""

from collections.abc import Sequence
from pathlib import Path

from regard.data.layout import Files
from regard.data.relation_files import IMAGE_FILE
from regard.data.split import Split
from regard.extract.options import fingerprint
from regard.files import InputError
from regard.relations.from_boxes import write_box_relations
from regard.relations.from_predictor import predict_relations
from regard.relations.predictor import Predictor


class RelationSource:
    """How relations are made: "boxes", "none", or a file that `regard relations fit` wrote.

    Two sources with equal `fingerprint` make the same relations. That of a file is a hash of its content. Raises
    InputError for another name or file.
    """

    def __init__(self, name: str) -> None:
        self.name, self.fingerprint, self.predictor = name, name, None
        if name not in ("boxes", "none"):
            if not Path(name).is_file():
                raise InputError(
                    f"--relations {name!r}: expected boxes, none, or a file that `regard relations fit` wrote."
                )
            self.predictor, self.fingerprint = Predictor.load(name), fingerprint(Path(name))

    def check_classes(self, classes: Sequence[str]) -> None:
        """Raise InputError if the predictor knows none of the classes."""
        known = self.predictor.classes[1:] if self.predictor else ()
        if self.predictor and not set(classes) & set(known):
            raise InputError(
                f"{self.name} knows no class of these regions: expected classes such as {', '.join(known[:3])}. Use "
                f"--relations boxes, or a detector with such classes."
            )

    def write(self, folder: Path, split: str) -> None:
        """Write the relations of a split. "none" writes nothing."""
        if self.predictor:
            triples = predict_relations(self.predictor, Split.open(folder, split))
            triples.save(Files(folder, split).path("relations.npz"), IMAGE_FILE)
        elif self.name == "boxes":
            write_box_relations(folder, split)
