"""Find a user's App from its path."""

from __future__ import annotations

import importlib
import importlib.util

from taskqd.app import App
from taskqd.errors import ConfigError


def load_app(path: str) -> App:
    """Import `module:attribute` (a dot works too) and return the App found there.

    Without an attribute, `app` is tried.  Raises ConfigError for a path that names no App;
    whatever the module itself raises while it is imported passes through.
    """
    module_name, _, attribute = path.partition(":")
    if not attribute:
        module_name, attribute = _split_dotted(path)
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is not None and (module_name + ".").startswith(error.name + "."):
            raise ConfigError(
                f"app {path!r}: no module named {error.name!r}; tried {module_name!r} from the"
                " working directory and the Python path"
            ) from None
        raise
    return _find(module, attribute, path)


def _split_dotted(path: str) -> tuple[str, str]:
    """`shop.tasks.app` is the attribute `app` of `shop.tasks`, unless it is a module itself."""
    try:
        found = importlib.util.find_spec(path) is not None
    except (ImportError, ValueError):
        found = False
    if found or "." not in path:
        return path, "app"
    module_name, _, attribute = path.rpartition(".")
    return module_name, attribute


def _find(module: object, attribute: str, path: str) -> App:
    value: object = module
    for part in attribute.split("."):
        try:
            value = getattr(value, part)
        except AttributeError:
            names = [n for n, v in vars(module).items() if isinstance(v, App)]
            hint = f"; it has {', '.join(names)}" if names else ""
            raise ConfigError(f"app {path!r}: no attribute {attribute!r}{hint}") from None
    if not isinstance(value, App):
        raise ConfigError(f"app {path!r}: expected a taskqd.App, found {type(value).__name__}")
    return value
