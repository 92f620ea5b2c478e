# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Trainings and evaluations over HTTP: started, watched, withdrawn, refused."""

from __future__ import annotations

import time

import pytest
from fastapi.testclient import TestClient

from flow_rag_vla.gateway.access import Access, Role, new_token
from flow_rag_vla.gateway.app import make_app
from flow_rag_vla.gateway.labeling.labels import Labels
from flow_rag_vla.gateway.labeling.models import Models
from flow_rag_vla.gateway.labeling.pictures import Pictures
from flow_rag_vla.gateway.labeling.section import labeling_section
from flow_rag_vla.labeling.registry.registry import Registry
from flow_rag_vla.labeling.training.jobs import Jobs
from flow_rag_vla.labeling.training.orders import Status, TrainOrder, write_order, write_status

ROOT = "/api/labeling"
TINY = {"size": "tiny", "width": 64, "height": 64, "epochs": 1, "batch": 4, "threads": 1, "device": "cpu"}
LONG = 150.0


@pytest.fixture
def ask(tmp_path):
    """``ask(Role.VIEWER, "GET", "/trainings")`` of a server with jobs."""
    jobs = Jobs(tmp_path / "jobs", niceness=0)
    tokens = {role: new_token(role.word, role) for role in Role}
    with Registry(tmp_path / "labels") as registry:
        section = labeling_section(Labels(registry, Pictures([]), Models(None)), jobs)
        client = TestClient(make_app(Access([token for token, _ in tokens.values()]), [section]))

        def send(role, method, path, **body):
            headers = {"Authorization": f"Bearer {tokens[role][1]}"}
            return client.request(method, ROOT + path, headers=headers, json=body or None)

        yield send
        jobs.close(patience_s=30.0)


def ended(ask, name):
    deadline = time.monotonic() + LONG
    while (job := ask(Role.VIEWER, "GET", f"/trainings/{name}").json())["state"] in ("waiting", "running"):
        assert time.monotonic() < deadline, job
        time.sleep(0.1)
    return job


def test_a_training_is_started_watched_shown_and_measured(ask):
    started = ask(Role.OPERATOR, "POST", "/trainings", dataset="simulator:1", name="one", settings=TINY)
    assert started.status_code == 202 and started.json()["kind"] == "training", started.text
    busy = ask(Role.OPERATOR, "POST", "/evaluations", dataset="simulator:1")
    assert (busy.status_code, busy.json()["code"]) == (409, "busy")
    done = ended(ask, "one")
    assert done["state"] == "finished" and done["pages"] == ["training.html", "evaluation.html"], done
    page = ask(Role.VIEWER, "GET", "/trainings/one/training.html")
    assert page.status_code == 200 and "default-src 'none'" in page.headers["content-security-policy"]
    asked = {"dataset": "simulator:1", "training": "one", "most": 1}
    assert ask(Role.OPERATOR, "POST", "/evaluations", **asked).status_code == 202
    names = [job["name"] for job in ask(Role.VIEWER, "GET", "/trainings").json()["items"]]
    assert names[1] == "one" and names[0].startswith("evaluation-")
    measured = ended(ask, names[0])
    assert (measured["state"], measured["pages"]) == ("finished", ["evaluation.html"]), measured
    # It has ended: nothing is left to withdraw.
    withdrawn = ask(Role.OPERATOR, "POST", f"/trainings/{names[0]}/cancel")
    assert (withdrawn.status_code, withdrawn.json()["state"]) == (202, "finished")


def test_what_makes_no_sense_is_refused_with_a_code(ask):
    order = {"dataset": "simulator:1", "settings": TINY}
    for role, method, path, body, status, code in (
        (Role.REVIEWER, "POST", "/trainings", order, 403, "role_too_low"),
        (Role.REVIEWER, "POST", "/trainings/one/cancel", {}, 403, "role_too_low"),
        (Role.OPERATOR, "POST", "/trainings", {"dataset": "../../etc"}, 422, "dataset_invalid"),
        (Role.OPERATOR, "POST", "/trainings", {"dataset": "cups@v3"}, 404, "dataset_missing"),
        (Role.OPERATOR, "POST", "/trainings", order | {"settings": {"epochs": 0}}, 422, "setting_out_of_range"),
        (Role.OPERATOR, "POST", "/trainings", order | {"settings": {"model": "/etc"}}, 400, "setting_out_of_range"),
        (Role.OPERATOR, "POST", "/trainings", order | {"start_from": "none"}, 404, "job_missing"),
        (Role.OPERATOR, "POST", "/trainings", order | {"name": "../up"}, 422, "invalid_request"),
        (Role.OPERATOR, "POST", "/evaluations", {"dataset": "simulator:1", "part": "all"}, 422, "invalid_request"),
        (Role.VIEWER, "GET", "/trainings/none", {}, 404, "job_missing"),
        (Role.VIEWER, "GET", "/trainings/none/training.html", {}, 404, "job_missing"),
        (Role.OPERATOR, "POST", "/trainings/none/cancel", {}, 404, "job_missing"),
    ):
        answer = ask(role, method, path, **body)
        assert (answer.status_code, answer.json()["code"]) == (status, code), (path, body, answer.text)
    assert ask(Role.VIEWER, "GET", "/trainings").json() == {"items": []}


def test_a_server_without_jobs_says_so(server):
    client = TestClient(server.app, headers={"Authorization": f"Bearer {server.secrets[Role.OPERATOR]}"})
    answer = client.post(f"{ROOT}/trainings", json={"dataset": "simulator:1"})
    assert (answer.status_code, answer.json()["code"]) == (409, "no_trainings")
    assert client.get(f"{ROOT}/trainings").json() == {"items": []}


def test_a_job_is_told_without_the_folder_that_it_lies_in(ask, tmp_path):
    folder = tmp_path / "jobs" / "two"
    folder.mkdir(parents=True)
    write_order(folder, TrainOrder("simulator:1"))
    write_status(folder, Status("failed", "source_corrupt", f"{folder}/order.json is no order of a job"))
    (folder / "training.html").write_text(f"<td>model</td><td>{tmp_path}/jobs/one/model</td>")
    assert ask(Role.VIEWER, "GET", "/trainings/two").json()["message"] == "order.json is no order of a job"
    page = ask(Role.VIEWER, "GET", "/trainings/two/training.html")
    assert page.text == "<td>model</td><td>one/model</td>"
