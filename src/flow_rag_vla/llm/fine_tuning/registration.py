# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Models of one's own as providers: a name for a folder, kept in one small file each.

They lie in the folder that FLOW_RAG_VLA_LANGUAGE_MODELS names, by default ``~/.ros/flow_rag_vla/language_models``.
Whoever chooses a provider chooses them by their name.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from flow_rag_vla.core.files import write_text
from flow_rag_vla.llm.errors import BadRequestError, UnknownModelError

VARIABLE = "FLOW_RAG_VLA_LANGUAGE_MODELS"
DEFAULT = "~/.ros/flow_rag_vla/language_models"
_NAME = re.compile(r"[a-z][a-z0-9_-]{0,59}")


@dataclass(frozen=True, slots=True)
class OwnModel:
    """A local model by name.

    english_only: it understands no other language, so questions are translated for it
    translator: folder or hub id of the model that translates Korean questions; empty: none of its own
    translator_back: of the one that translates answers in words; empty: they stay English
    translator_codes: of Korean and English for models of many languages, such as ``kor_Hang eng_Latn``
    """

    name: str
    folder: str
    english_only: bool = False
    translator: str = ""
    translator_back: str = ""
    translator_codes: str = ""


def register(model: OwnModel, taken: tuple[str, ...] = (), environment: Mapping[str, str] | None = None) -> Path:
    """Make a model known as a provider; the file that says so. The same name again replaces it.

    Raises:
        BadRequestError: for a name that is malformed or among ``taken``, or a translator of a model that needs none.
        UnknownModelError: for a folder without a model.
    """
    if not _NAME.fullmatch(model.name) or model.name in taken:
        raise BadRequestError(
            f"{model.name!r} cannot be a provider's name: small letters, digits, _ and -, a letter first, and none of "
            f"{', '.join(taken) or 'those that are there'}"
        )
    if model.translator and not model.english_only:
        raise BadRequestError(f"{model.name!r} has a translator, which asks it in English; say --english-only too")
    if (model.translator_back or model.translator_codes) and not model.translator:
        raise BadRequestError(f"{model.name!r} has no translator for questions; name one with --translator too")
    folder = Path(model.folder).expanduser().resolve()
    if not (folder / "config.json").is_file() or not list(folder.glob("*.safetensors")):
        raise UnknownModelError(f"{folder} holds no model (config.json and safetensors files); merge one into it first")
    path = _home(environment) / f"{model.name}.json"
    # A folder is found again from wherever it is asked; a hub id stays one.
    places = {name: _absolute(getattr(model, name)) for name in ("translator", "translator_back")}
    content = {**asdict(model), "folder": str(folder), **places}
    write_text(path, json.dumps(content, indent=1) + "\n")
    return path


def unregister(name: str, environment: Mapping[str, str] | None = None) -> None:
    """Forget a name; the model's folder stays.

    Raises:
        UnknownModelError: for one that is not registered.
    """
    if name not in own_models(environment):
        known = ", ".join(own_models(environment)) or "none"
        raise UnknownModelError(f"no model {name!r} is registered; known: {known}")
    (_home(environment) / f"{name}.json").unlink()


def own_models(environment: Mapping[str, str] | None = None) -> dict[str, OwnModel]:
    """By name, in order. Files that say nothing of the kind are passed over."""
    found = {}
    for path in sorted(_home(environment).glob("*.json")):
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            more = [str(content.get(name, "")) for name in ("translator", "translator_back", "translator_codes")]
            model = OwnModel(str(content["name"]), str(content["folder"]), bool(content["english_only"]), *more)
        except (OSError, ValueError, KeyError, TypeError):
            continue
        if _NAME.fullmatch(model.name) and path.stem == model.name:
            found[model.name] = model
    return found


def _absolute(place: str) -> str:
    path = Path(place).expanduser()
    return str(path.resolve()) if place and path.exists() else place


def _home(environment: Mapping[str, str] | None) -> Path:
    named = (os.environ if environment is None else environment).get(VARIABLE, "").strip()
    return Path(named or DEFAULT).expanduser()
