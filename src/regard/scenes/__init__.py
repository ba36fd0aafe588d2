"""Scenes, the made world: randomly drawn pictures with boxes, relations, twins and true sentences.

`scene` chooses what is in a scene and `scene_layout` where. `scene_drawing` draws it, `grammar` writes its sentences,
and `crop_features` computes its region features. `scene_folder` writes everything to disk.
"""

from regard.scenes.scene_folder import make_scenes

__all__ = ["make_scenes"]
