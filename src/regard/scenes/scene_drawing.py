"""Draw a scene: the backdrop of its setting, then its things from far to near. Find the visible part of each."""

from dataclasses import dataclass

import numpy as np
from PIL import Image

from regard.scenes.kinds import METAL
from regard.scenes.pen import HEIGHT, WIDTH, Canvas, Colour, Number, Pen, Point, shade
from regard.scenes.scene import Fact, Scene, SceneRandom, is_in_sky
from regard.scenes.scene_layout import HILLS, Place, lay_out

SKY_AND_GROUND: dict[str, tuple[Colour, Colour]] = {
    "meadow": ((186, 222, 244), (140, 192, 104)),
    "beach": ((176, 222, 240), (238, 218, 164)),
    "snow": ((206, 220, 234), (236, 241, 248)),
    "street": ((204, 216, 226), (158, 158, 164)),
    "night": ((44, 52, 96), (62, 92, 80)),
}


@dataclass(frozen=True)
class SceneDrawing:
    """A drawn scene. `boxes` and `min_visible` take into account that near things hide far ones."""

    picture: Image.Image
    boxes: np.ndarray  # int [thing, 4]: x1 y1 x2 y2 in pixels, around the visible part; empty if a thing is hidden
    min_visible: float  # the smallest visible fraction of a thing


def draw_scene(scene: Scene, rng: SceneRandom) -> SceneDrawing:
    """Lay a scene out and draw it. With the same random numbers, twins have the same layout."""
    horizon = rng.between(128, 138) if is_in_sky(scene.near[0], scene.things) else rng.between(92, 104)
    canvas = backdrop(scene.setting, rng, horizon)
    places = lay_out(scene, rng, horizon)
    shadow = shade(SKY_AND_GROUND[scene.setting][1], -0.16)
    whole = np.ones(len(places))
    for i in sorted(range(len(places)), key=lambda i: places[i].depth):
        thing, pen = scene.things[i], pen_at(canvas, i, scene, places[i])
        if places[i].stands:
            Pen(canvas, 0, places[i].x, places[i].ground, places[i].scale).oval(
                shadow, 0, 0, thing.kind.width * 0.48, 3
            )
        thing.kind.draw(pen, thing.appearance)
        whole[i] = canvas.area(i + 1)
        if (container := places[i].inside) >= 0:
            kind, appearance = scene.things[container].kind, scene.things[container].appearance
            assert kind.front
            kind.front(pen_at(canvas, container, scene, places[container]), appearance)
    areas = np.array([canvas.area(i + 1) for i in range(len(places))])
    min_visible = float((areas / np.maximum(whole, 1)).min())
    if min_visible:
        for fact in scene.facts:
            if fact.predicate == "pulling":
                rope(canvas, scene, places, fact)
    boxes = [canvas.box(i + 1) for i in range(len(places))] if min_visible else []
    return SceneDrawing(canvas.picture(), np.array(boxes, np.int32).reshape(-1, 4), min_visible)


def pen_at(canvas: Canvas, number: int, scene: Scene, place: Place) -> Pen:
    return Pen(canvas, number + 1, place.x, place.ground, place.scale, scene.things[number].facing)


def rope(canvas: Canvas, scene: Scene, places: list[Place], fact: Fact) -> None:
    """Draw the rope of a "pulling" fact. It is part of no thing and ends outside the boxes: no crop shows it."""
    ends: list[Point] = []
    for i, is_back in ((fact.subject, True), (fact.object, False)):
        thing, place = scene.things[i], places[i]
        x1, _, x2, _ = canvas.box(i + 1)
        assert thing.kind.tow
        x: Number = x1 - 2 if (thing.facing > 0) == is_back else x2 + 1
        ends.append((x, thing.kind.tow[not is_back] * place.scale - place.ground))
    middle = (ends[0][0] + ends[1][0]) / 2, (ends[0][1] + ends[1][1]) / 2 - 4
    Pen(canvas, 0, 0, 0).limb((108, 82, 56), 2, ends[0], middle, ends[1])


def backdrop(setting: str, rng: SceneRandom, horizon: Number) -> Canvas:
    """Return a canvas with sky, horizon and ground.

    Their details are at random positions, so that a crop does not show where in the picture it was.
    """
    sky, ground = SKY_AND_GROUND[setting]
    canvas = Canvas(sky)
    pen = Pen(canvas, 0, 0, 0)
    if setting == "night":
        for _ in range(16):
            pen.oval((236, 232, 200), rng.between(0, WIDTH), -rng.between(0, horizon), 0.8, 0.8)
        x, y = rng.between(20, WIDTH - 20), -rng.between(0, horizon)
        pen.oval((244, 236, 196), x, y, 11, 11)
        pen.oval(sky, x + 5, y + 2, 10, 10)
    else:
        for _ in range(rng.pick((1, 2, 3))):
            x, y = rng.between(0, WIDTH), -rng.between(0, horizon)
            for dx, dy, rx, ry in ((-12, 0, 12, 5), (0, 4, 11, 8), (12, 0, 13, 6)):
                pen.oval(shade(sky, 0.55), x + dx, y + dy, rx, ry)

    if setting == "beach":
        pen.block((246, 246, 240), 0, -horizon, WIDTH, -horizon + 13.5)
        pen.block((96, 170, 204), 0, -horizon, WIDTH, -horizon + 12)
    elif setting == "street":
        pen.block((196, 196, 198), 0, -horizon, WIDTH, -horizon + 14)
        pen.block((128, 168, 112), 0, -horizon, WIDTH, -horizon + 6)
    else:
        hill = shade(ground, -0.1 if setting != "snow" else -0.05)
        for _ in range(3):
            pen.oval(hill, rng.between(0, WIDTH), -horizon, rng.between(50, 100), rng.between(8, HILLS))

    pen.block(ground, 0, -HEIGHT, WIDTH, -horizon)
    if setting == "street":
        for left in np.arange(rng.between(-40, 0), WIDTH, 40).tolist():
            pen.block((232, 228, 210), left, -HEIGHT + 4, left + 20, -HEIGHT + 7)
    tuft = METAL if setting == "street" else shade(ground, -0.09 if setting != "snow" else -0.05)
    for _ in range(14):
        x, y = rng.between(0, WIDTH), rng.between(horizon + 4, HEIGHT)
        pen.oval(tuft, x, -y, rng.between(1.5, 4), 0.8)
    return canvas
