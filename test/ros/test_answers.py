# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""A node that must be in time answers those who can hear it, at once or later, and waits for nobody."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from rcl_interfaces.srv import ListParameters
from std_srvs.srv import Trigger

from flow_rag_vla.nodes import answers
from flow_rag_vla.nodes.answers import PatientAnswers, clients_known


class Known:
    """What the graph is made to show."""

    def __init__(self):
        self.services = set()

    def __call__(self, _node, service):
        return service.service_name in self.services


@pytest.fixture
def server(ros_node):
    """Two services that number their answers, on the node whose answers are patient."""
    numbers = {"/first": 0, "/second": 0}

    def answering(name):
        def answer(_request, response):
            numbers[name] += 1
            response.message = f"{name} {numbers[name]}"
            return response

        return answer

    for name in numbers:
        ros_node.create_service(Trigger, name, answering(name))
    return numbers


def asked(node, name, kind=Trigger):
    client = node.create_client(kind, name)
    assert client.wait_for_service(20.0)
    return client, client.call_async(kind.Request())


def test_an_answer_waits_for_its_client_and_those_behind_it_keep_their_order_while_others_are_answered(
    ros_node, server, spin_until
):
    known, complaints = Known(), []
    known.services = {"/second"}
    patient = PatientAnswers(ros_node, complaints.append, known)
    client, one = asked(ros_node, "/first")
    spin_until(lambda: server["/first"], 20, "the first request")
    _, other = asked(ros_node, "/second")
    spin_until(other.done, 20, "the other service's answer")
    two = client.call_async(Trigger.Request())
    spin_until(lambda: server["/first"] == 2, 20, "the second request")
    assert not one.done() and not two.done() and patient.kept == 2
    known.services.add("/first")
    spin_until(lambda: one.done() and two.done(), 20, "both answers")
    assert [one.result().message, two.result().message] == ["/first 1", "/first 2"]
    assert other.result().message == "/second 1" and complaints == []


def test_an_answer_that_nobody_can_hear_is_given_up_by_name_and_the_next_one_is_not(
    ros_node, server, spin_until, monkeypatch
):
    monkeypatch.setattr(answers, "GIVEN_UP_S", 0.0)
    known, complaints = Known(), []
    PatientAnswers(ros_node, complaints.append, known)
    client, one = asked(ros_node, "/first")
    spin_until(lambda: complaints, 20, "the complaint")
    assert "/first" in complaints[0] and not one.done()
    known.services.add("/first")
    two = client.call_async(Trigger.Request())
    spin_until(two.done, 20, "the next answer")
    assert two.result().message == "/first 2"


def test_no_more_answers_are_kept_than_a_bound(ros_node, server, spin_until, monkeypatch):
    monkeypatch.setattr(answers, "MOST_KEPT", 1)
    known, complaints = Known(), []
    PatientAnswers(ros_node, complaints.append, known)
    client, one = asked(ros_node, "/first")
    two = client.call_async(Trigger.Request())
    spin_until(lambda: complaints, 20, "the complaint")
    known.services.add("/first")
    spin_until(one.done, 20, "the answer that was kept")
    assert one.result().message == "/first 1" and not two.done() and len(complaints) == 1


def test_clients_of_the_graph_are_known_by_both_of_their_ends_and_answered_parameters_included(
    ros_node, server, spin_until
):
    patient = PatientAnswers(ros_node, lambda text: pytest.fail(text))
    for name, kind in (("/first", Trigger), (f"{ros_node.get_name()}/list_parameters", ListParameters)):
        _, future = asked(ros_node, name, kind)
        spin_until(future.done, 20, f"the answer of {name}")
    ends = ros_node.get_publishers_info_by_topic("rq/firstRequest", no_mangle=True)
    assert len(ends) == 1, "the names of these ends are those of the middleware that the tests run with"
    assert len(ros_node.get_subscriptions_info_by_topic("rr/firstReply", no_mangle=True)) == 1
    assert all(clients_known(ros_node, service) for service in ros_node.services) and patient.kept == 0


@pytest.mark.parametrize(
    ("asking", "hearing", "known"),
    [
        ([], [], True),
        ([(1, 3)], [(1, 4)], True),
        ([(1, 3)], [], False),
        ([(1, 3)], [(2, 4)], False),
        ([(1, 3), (1, 5), (2, 3)], [(1, 4), (2, 4)], False),
        ([(1, 3), (1, 5), (2, 3)], [(1, 4), (2, 4), (1, 6)], True),
    ],
)
def test_each_process_that_asks_must_hear_as_often_as_it_asks(asking, hearing, known):
    def ends(pairs):
        return [SimpleNamespace(endpoint_gid=[process] * 12 + [end] * 4) for process, end in pairs]

    topics = {("publishers", "rq/arm/resetRequest"): asking, ("subscriptions", "rr/arm/resetReply"): hearing}
    node = SimpleNamespace(
        get_publishers_info_by_topic=lambda topic, no_mangle: ends(topics["publishers", topic]),
        get_subscriptions_info_by_topic=lambda topic, no_mangle: ends(topics["subscriptions", topic]),
    )
    assert clients_known(node, SimpleNamespace(service_name="/arm/reset")) is known
