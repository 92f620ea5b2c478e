# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""What the shipped detector knows, and the words for it in English and Korean."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from flow_rag_vla.labeling.pipeline.errors import PromptError

CATEGORIES = ("red cube", "blue box", "yellow cylinder", "bin", "drawer", "green zone", "robot arm", "gripper")
"""Labels, in the order of the network's outputs; the first output is what is none of them."""

ALONE = ("bin", "drawer", "green zone", "robot arm", "gripper")
"""Of these a scene of the simulator holds one at most: what is seen of it, in how many pieces ever, is one thing."""

_RED, _BLUE, _YELLOW, _GREEN = "red cube", "blue box", "yellow cylinder", "green zone"
_LOOSE = (_RED, _BLUE, _YELLOW)

WORDS: Mapping[str, tuple[str, ...]] = {
    "red": (_RED,),
    "blue": (_BLUE,),
    "yellow": (_YELLOW,),
    "green": (_GREEN,),
    "cube": (_RED,),
    "block": (_RED, _BLUE),
    "box": (_BLUE,),
    "cuboid": (_BLUE,),
    "cylinder": (_YELLOW,),
    "can": (_YELLOW,),
    "object": _LOOSE,
    "thing": _LOOSE,
    "item": _LOOSE,
    "bin": ("bin",),
    "container": ("bin",),
    "basket": ("bin",),
    "tray": ("bin",),
    "drawer": ("drawer",),
    "cabinet": ("drawer",),
    "zone": (_GREEN,),
    "circle": (_GREEN,),
    "goal": (_GREEN,),
    "arm": ("robot arm",),
    "robot": ("robot arm", "gripper"),
    "manipulator": ("robot arm",),
    "gripper": ("gripper",),
    "hand": ("gripper",),
    "finger": ("gripper",),
    "빨간": (_RED,),
    "빨강": (_RED,),
    "붉은": (_RED,),
    "빨간색": (_RED,),
    "파란": (_BLUE,),
    "파랑": (_BLUE,),
    "푸른": (_BLUE,),
    "파란색": (_BLUE,),
    "노란": (_YELLOW,),
    "노랑": (_YELLOW,),
    "노란색": (_YELLOW,),
    "초록": (_GREEN,),
    "초록색": (_GREEN,),
    "녹색": (_GREEN,),
    "큐브": (_RED,),
    "정육면체": (_RED,),
    "블록": (_RED, _BLUE),
    "상자": (_BLUE,),
    "박스": (_BLUE,),
    "직육면체": (_BLUE,),
    "원기둥": (_YELLOW,),
    "원통": (_YELLOW,),
    "실린더": (_YELLOW,),
    "물체": _LOOSE,
    "물건": _LOOSE,
    "통": ("bin",),
    "바구니": ("bin",),
    "용기": ("bin",),
    "서랍": ("drawer",),
    "서랍장": ("drawer",),
    "캐비닛": ("drawer",),
    "구역": (_GREEN,),
    "영역": (_GREEN,),
    "로봇": ("robot arm", "gripper"),
    "팔": ("robot arm",),
    "로봇팔": ("robot arm",),
    "그리퍼": ("gripper",),
    "집게": ("gripper",),
    "손": ("gripper",),
}
"""A word -> the categories that it fits. A prompt of several words means what all of them fit."""

_FILLING = {"a", "an", "the", "of"}


def categories_of(prompt: str) -> tuple[str, ...]:
    """The categories that a prompt means: the name itself, or words that each fit it; plural and case do not matter.

    Raises:
        PromptError: for an empty prompt, or one that fits nothing; the text lists what is known.
    """
    words = [word for word in re.split(r"[\s_\-]+", prompt.strip().lower()) if word and word not in _FILLING]
    if not words:
        raise PromptError(f"the prompt {prompt!r} is empty; known are: {', '.join(CATEGORIES)}", "prompt_empty")
    if " ".join(words) in CATEGORIES:
        return (" ".join(words),)
    fitting = set(CATEGORIES)
    for word in words:
        fitting &= set(WORDS.get(word) or WORDS.get(word.removesuffix("s")) or WORDS.get(word.removesuffix("es")) or ())
    if not fitting:
        raise PromptError(
            f"the prompt {prompt!r} is outside of what the compact detector was taught; known are: "
            f"{', '.join(CATEGORIES)}, and these words: {', '.join(WORDS)}; Florence-2 and Grounding DINO take any",
            "prompt_unknown",
        )
    return tuple(category for category in CATEGORIES if category in fitting)


def asked_categories(prompts: Sequence[str]) -> dict[str, str]:
    """Category -> the prompt that asked for it first; all of them, under their own names, without prompts.

    Raises:
        PromptError: as ``categories_of``.
    """
    if not prompts:
        return {category: category for category in CATEGORIES}
    found: dict[str, str] = {}
    for prompt in prompts:
        for category in categories_of(prompt):
            found.setdefault(category, prompt)
    return {category: found[category] for category in CATEGORIES if category in found}


def category_of(identity: str) -> str | None:
    """Category of a simulated thing by its name ("red_cube_2": "red cube"); None for what nobody asks for."""
    name = re.sub(r"_\d+$", "", identity).replace("_", " ")
    return name if name in CATEGORIES else None
