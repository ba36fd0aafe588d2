"""Scenes, the made world: pictures drawn by dice, their boxes, relations, twins and true sentences."""

from regard.scenes.write import make_scenes

__all__ = ["make_scenes"]
