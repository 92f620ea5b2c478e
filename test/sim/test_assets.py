# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from flow_rag_vla.sim import assets
from flow_rag_vla.sim.assets import AssetError, asset_path, resolved_urdf


@pytest.mark.parametrize("name", ["panda.urdf", "bin.urdf", "drawer.urdf"])
def test_every_description_is_found(name: str) -> None:
    assert asset_path(name).is_file()


def test_an_installed_package_finds_its_share_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = tmp_path / "lib" / "python3.11" / "site-packages" / "flow_rag_vla" / "sim" / "assets.py"
    share = tmp_path / "share" / "flow_rag_vla" / "urdf"
    module.parent.mkdir(parents=True)
    share.mkdir(parents=True)
    module.touch()
    shutil.copy(asset_path("bin.urdf"), share)
    monkeypatch.setattr(assets, "__file__", str(module))
    assert asset_path("bin.urdf") == share / "bin.urdf"


def test_a_missing_description_is_named_with_where_it_was_sought() -> None:
    with pytest.raises(AssetError, match=r"'toaster\.urdf' was found in none of .*urdf"):
        asset_path("toaster.urdf")


def test_mesh_paths_of_the_robot_exist_once_resolved() -> None:
    with resolved_urdf("panda.urdf") as path:
        text = Path(path).read_text(encoding="utf-8")
    meshes = [part.split('"')[0] for part in text.split('<mesh filename="')[1:]]
    assert len(meshes) > 10
    assert all(Path(mesh).is_file() for mesh in meshes)
    assert not Path(path).exists()
