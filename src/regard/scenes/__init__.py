"""Scenes, the made world: pictures drawn by rng, their boxes, relations, twins and true sentences."""

from regard.scenes.scene_folder import make_scenes

__all__ = ["make_scenes"]
