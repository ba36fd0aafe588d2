"""Every kind of thing in the made world. A kind's position is its class number in the data, so the order is fixed."""

from regard.scenes.animals import ANIMALS
from regard.scenes.people import PEOPLE
from regard.scenes.things import THINGS
from regard.scenes.vehicles import VEHICLES

KINDS = PEOPLE | ANIMALS | VEHICLES | THINGS
