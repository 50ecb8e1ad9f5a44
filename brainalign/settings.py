"""Settings checked against the signature of the class that takes them, so that no option is written down twice."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Mapping, Sequence
from dataclasses import is_dataclass
from typing import Any, get_type_hints

from pydantic import ConfigDict, ValidationError, create_model

from brainalign.errors import RecipeError, nearest

__all__ = ["SettingError", "check_keys", "checked_settings"]


# No setting may be NaN or infinite: what compares with nothing, or is never reached, is not what was meant.
CONFIG = ConfigDict(extra="forbid", arbitrary_types_allowed=True, allow_inf_nan=False)


class SettingError(RecipeError):
    """A RecipeError that knows the dotted key it is about, so that its line in a file can be found."""

    def __init__(self, key: str, message: str) -> None:
        super().__init__(f"{key}: {message}" if key else message)
        self.key = key


def checked_settings(
    cls: type, settings: Mapping[str, Any], where: str, known_too: Sequence[str] = ()
) -> dict[str, Any]:
    """The settings given, as the types that the signature of `cls` names; the others are left to its defaults.

    Parameters
    ----------
    cls : type
        A dataclass, or a class with an annotated ``__init__``.
    settings : mapping
        Parameters, as YAML gives them.
    where : str
        The dotted key they stand under, for messages.
    known_too : sequence of str
        Parameters that the caller looks after: they are neither checked nor given back.

    Raises
    ------
    SettingError
        If one is unknown, missing, or of the wrong type.

    Examples
    --------
    >>> from brainalign.types import Clock
    >>> checked_settings(Clock, {"step_s": "2"}, "clock")
    {'step_s': 2.0}
    """
    parameters = {
        name: parameter for name, parameter in inspect.signature(cls).parameters.items() if name not in known_too
    }
    check_keys(settings, [*parameters, *known_too], where)
    hints = get_type_hints(cls if is_dataclass(cls) else cls.__init__)
    fields: dict[str, Any] = {
        name: (hints.get(name, Any), ... if parameter.default is parameter.empty else parameter.default)
        for name, parameter in parameters.items()
    }
    model = create_model("Settings", __config__=CONFIG, **fields)
    try:
        checked = model.model_validate({name: value for name, value in settings.items() if name not in known_too})
    except ValidationError as error:
        raise _setting_error(error, settings, where) from error
    return {name: getattr(checked, name) for name in parameters if name in settings}


def check_keys(settings: Mapping[Any, Any], known: Collection[str], where: str) -> None:
    """Raise a SettingError about the first key that is not known, with the nearest that is."""
    for key in settings:
        if key not in known:
            raise SettingError(f"{where}.{key}" if where else str(key), f"unknown key. {nearest(str(key), known)}")


def _setting_error(error: ValidationError, settings: Mapping[str, Any], where: str) -> SettingError:
    """What is wrong with one setting; where a value fits none of several types, the type that it came nearest to."""
    worst = max(error.errors(include_url=False), key=lambda found: len(found["loc"]))
    key = ".".join((where, *_keys(worst, settings)) if where else _keys(worst, settings))
    if worst["type"] == "missing":
        return SettingError(key, "missing.")
    if worst["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        return SettingError(key, "unknown key.")
    if worst["type"] in ("tuple_type", "list_type"):
        return SettingError(key, f"must be a list, as in [a, b], not {str(worst['input'])[:80]!r}.")
    return SettingError(key, f"{worst['msg'][0].lower()}{worst['msg'][1:]}, not {str(worst['input'])[:80]!r}.")


def _keys(found: Mapping[str, Any], settings: Any) -> list[str]:
    """The keys of the settings that lead to an error; between them stand the names of types that were tried."""
    keys, place, location = [], settings, list(found["loc"])
    for number, part in enumerate(location):
        inside = isinstance(place, Mapping) and part in place
        if inside or (isinstance(place, (list, tuple)) and isinstance(part, int) and part < len(place)):
            keys.append(str(part))
            place = place[part]
        elif found["type"] == "missing" and number == len(location) - 1:
            keys.append(str(part))
    return keys
