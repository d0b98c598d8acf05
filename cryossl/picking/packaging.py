"""A picking model as MLflow loads it: what `served` needs, what it takes and what it gives."""

from __future__ import annotations

from functools import cache
from importlib import metadata
from typing import Any

from cryossl.system.code_digest import LIBRARIES, ROOT, module_path, needed_by
from cryossl.tracking.store.model_folder import packed

_SCRIPT = "cryossl.picking.served"
_GREY = {"type": "array", "items": {"type": "array", "items": {"type": "double"}}}
_SIGNATURE: dict[str, list[dict[str, Any]]] = {
    "inputs": [
        {"name": "path", "type": "string", "required": False},
        {"name": "picture", **_GREY, "required": False},
    ],
    "outputs": [
        {"name": "picture", "type": "long", "required": True},
        *({"name": name, "type": "double", "required": True} for name in ("x_px", "y_px", "score")),
    ],
    "params": [
        {"name": "threshold", "type": "double", "default": None, "shape": None},
        {"name": "diameter_px", "type": "double", "default": None, "shape": None},
        {"name": "source", "type": "string", "default": None, "shape": None},
    ],
}
_SIDE_PX = 16
_EXAMPLE = (
    [{"picture": [[float(x * y) for x in range(_SIDE_PX)] for y in range(_SIDE_PX)]}],
    {"diameter_px": 8.0, "threshold": 0.5},
)


@cache
def package() -> bytes:
    """The folder that MLflow loads a model from, as a zip without the model's file.

    It is the same for all models. Raises OSError if the folder for it cannot be written.
    """
    modules, libraries = needed_by(_SCRIPT)
    own = [module_path(name) for name in modules if name != _SCRIPT]
    packages = {path.parent / "__init__.py" for path in own} | {
        above / "__init__.py" for path in own for above in path.relative_to(ROOT).parents
    }
    files = {*own, *(path if path.is_absolute() else ROOT / path for path in packages)}
    return packed(
        module_path(_SCRIPT),
        code={path.relative_to(ROOT).as_posix(): path for path in files if path.is_file()},
        requirements=[
            f"{name}=={metadata.version(name).partition('+')[0]}"
            for library in libraries
            for name in LIBRARIES.get(library, (library.replace("_", "-"),))[:1]
        ],
        signature=_SIGNATURE,
        example=_EXAMPLE,
    )
