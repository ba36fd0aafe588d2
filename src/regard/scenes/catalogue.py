"""Every kind of thing in the made world. A kind's position gives its class number in the data: keep the order."""

from regard.scenes.animals import ANIMALS
from regard.scenes.people import PEOPLE
from regard.scenes.things import THINGS
from regard.scenes.vehicles import VEHICLES

KINDS = PEOPLE | ANIMALS | VEHICLES | THINGS
