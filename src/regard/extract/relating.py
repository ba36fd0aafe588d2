"""What makes the relations between the regions of a split: their places, or a predictor, or nothing."""

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


class Relating:
    """ "boxes", "none", or a file of `regard relations fit`. Raises InputError for another name or file.

    `made_by` tells whether relations were made alike: of a file it is a hash of what is in it.
    """

    def __init__(self, name: str) -> None:
        self.name, self.made_by, self.predictor = name, name, None
        if name not in ("boxes", "none"):
            if not Path(name).is_file():
                raise InputError(
                    f"There are no relations {name!r}: expected boxes, none, or a file of `regard relations fit`."
                )
            self.predictor, self.made_by = Predictor.load(name), fingerprint(Path(name))

    def check(self, classes: Sequence[str]) -> None:
        """Raise InputError if the predictor knows none of the classes: before any relations are made."""
        known = self.predictor.classes[1:] if self.predictor else ()
        if self.predictor and not set(classes) & set(known):
            raise InputError(
                f"{self.name} knows no class of these regions, but {', '.join(known[:3])} and so on. Take --relations "
                f"boxes, or a detector that names such classes."
            )

    def make(self, folder: Path, split: str) -> None:
        """Write the relations of a split."""
        if self.predictor:
            found = predict_relations(self.predictor, Split.open(folder, split))
            found.save(Files(folder, split).path("relations.npz"), IMAGE_FILE)
        elif self.name == "boxes":
            write_box_relations(folder, split)
