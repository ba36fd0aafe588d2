"""The models: one file per paper. None imports another."""

from regard.matcher import Matcher
from regard.models.cmsei import CMSEI
from regard.models.hire import Hire
from regard.models.resg import ReSG
from regard.models.scan import SCAN
from regard.models.sgraf import SGRAF
from regard.models.tvrn import TVRN
from regard.models.vse_infinity import VSEInfinity

MODELS: dict[str, type[Matcher]] = {
    "cmsei": CMSEI,
    "hire": Hire,
    "resg": ReSG,
    "scan": SCAN,
    "sgraf": SGRAF,
    "tvrn": TVRN,
    "vse_infinity": VSEInfinity,
}
