"""``flow_rag_vla curate`` on a real registry."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from flow_rag_vla.cli.main import app
from flow_rag_vla.labeling.detections import Origin, ScoreKind
from flow_rag_vla.labeling.registry.registry import Registry
from flow_rag_vla.labeling.registry.values import (
    Embedder,
    ImageDraft,
    ObjectChange,
    ObjectDraft,
    SourceDraft,
    SourceKind,
)

RUNNER = CliRunner()
NAMES = ("cup", "bowl")


@pytest.fixture
def folder(tmp_path):
    """Four pictures of a cup and a bowl; the third shows the same as the first."""
    media = tmp_path / "media"
    media.mkdir()
    rng = np.random.default_rng(0)
    noise = 0.05 * rng.normal(size=(4, 2, 8))
    noise[2] = noise[0] + 1e-4
    with Registry(tmp_path / "labels") as registry:
        source = registry.add_source(SourceDraft(SourceKind.FOLDER, str(media.resolve())))
        for number in range(4):
            pixels = np.random.default_rng(number % 2 + (number == 3)).integers(0, 255, (6, 8, 3), np.uint8)
            Image.fromarray(pixels.repeat(8, axis=0).repeat(8, axis=1)).save(media / f"{number}.png")
            (image,) = registry.add_images(source.source_id, [ImageDraft(f"{number}.png", 64, 48, number)])
            drafts = []
            for place, name in enumerate(NAMES):
                vector = np.eye(8)[place] + noise[number, place]
                drafts.append(
                    ObjectDraft(
                        image.image_id,
                        name,
                        (4 + 20 * place, 4, 20 + 20 * place, 30),
                        0.9 - 0.01 * number,
                        ScoreKind.SIGMOID,
                        Origin("detector"),
                        embedding=(vector / np.linalg.norm(vector)).astype(np.float32),
                        embedder=Embedder("tiny", "1", 8),
                    )
                )
            registry.register(drafts, who="detector")
    return tmp_path / "labels"


def run(*arguments, code=0):
    result = RUNNER.invoke(app, ["curate", *map(str, arguments)])
    assert result.exit_code == code, result.output
    return result


def test_what_is_useful_next_is_listed(folder):
    found = json.loads(run("next", folder, "--limit", 3, "--json").stdout)
    assert (found["waiting"], found["judged"], len(found["items"])) == (8, 0, 3)
    shown = run("next", folder, "--category", "cup").stdout
    assert found["items"][0]["object_id"] in shown or "cup" in shown
    assert "bowl" not in shown and "8 objects wait" not in shown
    assert "no category 'mug'" in run("next", folder, "--category", "mug", code=1).stderr


def test_mistakes_and_odd_ones_are_listed(folder):
    with Registry(folder) as registry:
        wrong = registry.list_objects().objects[0].object_id
        registry.update(wrong, ObjectChange(category="cup"), who="ben")
    found = json.loads(run("mistakes", folder, "--json").stdout)
    assert (found[0]["object_id"], found[0]["suggested"]) == (wrong, "bowl")
    assert wrong in run("mistakes", folder, "--limit", 1).stdout
    assert json.loads(run("mistakes", folder, "--validated", "--json").stdout) == []
    unique = json.loads(run("unique", folder, "--json").stdout)
    assert unique[0]["uniqueness"] == 1.0 and len(unique) == 8


def test_duplicates_are_named_and_deleted_only_when_asked_and_an_undo_brings_them_back(folder):
    found = json.loads(run("duplicates", folder, "--json").stdout)
    assert found["pictures"] == 4 and found["deleted"] == 0
    ((kept, (double,)),) = [(group["kept"], group["duplicates"]) for group in found["groups"]]
    with Registry(folder) as registry:
        assert (registry.image(kept).name, registry.image(double).name) == ("0.png", "2.png")
    shown = run("duplicates", folder, "--delete", "--who", "anna").stdout
    assert "1 of 4 pictures" in shown and "2 objects deleted by anna" in shown
    with Registry(folder) as registry:
        assert registry.count() == 6
        registry.undo(who="anna")
        assert registry.count() == 7
    run("next", folder.parent / "nothing", code=1)
