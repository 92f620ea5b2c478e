# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Every topic, service and action of the graph: type, quality of service, who gives it, who takes it.

The recorder subscribes from this list, the reference page is generated from it, and a test holds it against what the
running nodes really offer.
"""

from __future__ import annotations

from dataclasses import dataclass

from flow_rag_vla.bringup import topics

_OWN = "flow_rag_vla_interfaces"


@dataclass(frozen=True, slots=True)
class Topic:
    """One topic. ``qos`` names a profile of ``flow_rag_vla.nodes.qos``."""

    name: str
    type: str
    qos: str
    publishers: tuple[str, ...]
    subscribers: tuple[str, ...]
    meaning: str


@dataclass(frozen=True, slots=True)
class Service:
    """One service or action."""

    name: str
    type: str
    server: str
    meaning: str


TOPICS: tuple[Topic, ...] = (
    Topic(topics.FRONT_IMAGE, "sensor_msgs/msg/Image", "SENSOR", ("simulator_camera",),
          ("camera_encoder", "failure_memory"),
          "third-person camera, rgb8"),
    Topic(topics.FRONT_INFO, "sensor_msgs/msg/CameraInfo", "SENSOR", ("simulator_camera",), (),
          "its intrinsics"),
    Topic(topics.WRIST_IMAGE, "sensor_msgs/msg/Image", "SENSOR", ("simulator_camera",),
          ("camera_encoder", "failure_memory"),
          "wrist camera, rgb8"),
    Topic(topics.WRIST_INFO, "sensor_msgs/msg/CameraInfo", "SENSOR", ("simulator_camera",), (),
          "its intrinsics"),
    Topic(topics.ROBOT_STATE, f"{_OWN}/msg/RobotState", "SENSOR", ("simulator",),
          ("flow_policy", "failure_memory", "failure_detector", "controller", "episode_manager"),
          "one consistent sample of everything the robot senses about itself"),
    Topic(topics.JOINT_STATES, "sensor_msgs/msg/JointState", "SENSOR", ("simulator",), (),
          "arm joints, for standard tools"),
    Topic(topics.GRIPPER_STATE, "sensor_msgs/msg/JointState", "SENSOR", ("simulator",), (),
          "finger joints and squeezing force, for standard tools"),
    Topic(topics.WRENCH, "geometry_msgs/msg/WrenchStamped", "SENSOR", ("simulator",), (),
          "external force and torque at the tool, for standard tools"),
    Topic(topics.EMBEDDING, f"{_OWN}/msg/Embedding", "SENSOR", ("camera_encoder",),
          ("flow_policy", "failure_memory", "failure_detector"),
          "what the cameras saw, stamped with the images' capture time"),
    Topic(topics.ACTION_CHUNK, f"{_OWN}/msg/ActionChunk", "PLAN", ("flow_policy",),
          ("controller", "failure_memory", "failure_detector"),
          "16 rows of motion with uncertainty and provenance"),
    Topic(topics.CORRECTION, f"{_OWN}/msg/Correction", "PLAN", ("failure_memory",), ("flow_policy", "controller"),
          "the memory's answer to one embedding"),
    Topic(topics.COMMAND, f"{_OWN}/msg/ControlCommand", "command", ("controller",),
          ("simulator", "failure_memory", "failure_detector", "episode_manager"),
          "one command every 25 ms, with its provenance"),
    Topic(topics.TICK_INPUTS, f"{_OWN}/msg/TickInputs", "EVENT", ("controller",), (),
          "what each tick took in, so that its command can be made again; only while someone listens"),
    Topic(topics.LOOP_STATISTICS, f"{_OWN}/msg/LoopStatistics", "STATE", ("controller",), ("episode_manager",),
          "rate, tick error, late and skipped ticks, latencies, each second"),
    Topic(topics.FAILURE_EVENT, f"{_OWN}/msg/FailureEvent", "EVENT", ("failure_detector",),
          ("failure_memory", "episode_manager"),
          "a failure with its evidence"),
    Topic(topics.FAILURE_SCORE, f"{_OWN}/msg/FailureScore", "SENSOR", ("failure_detector",), (),
          "how unlike a success the episode looks: score, band, p-value, alarm and reason"),
    Topic(topics.MEMORY_STATISTICS, f"{_OWN}/msg/MemoryStatistics", "STATE", ("failure_memory",), (),
          "size and speed of the memory, each second"),
    Topic(topics.EPISODE_STATUS, f"{_OWN}/msg/EpisodeStatus", "STATE", ("episode_manager",),
          ("flow_policy", "failure_memory", "failure_detector", "controller"),
          "which episode runs, in which phase"),
    Topic(topics.EMERGENCY_STOP, "std_msgs/msg/Bool", "STATE", (), ("controller", "episode_manager"),
          "true latches the emergency stop; anyone may publish it, and takes back only its own"),
    Topic(topics.READY, "std_msgs/msg/Bool", "STATE", ("lifecycle_manager",), (),
          "whether all managed nodes work"),
    Topic(topics.TAKEOVER, f"{_OWN}/msg/Takeover", "SENSOR", (), ("controller",),
          "a person's motion, followed instead of the policy until it is released; anyone may publish it"),
    Topic(topics.GROUND_TRUTH, f"{_OWN}/msg/SceneState", "SENSOR", ("simulator",),
          ("simulator_camera", "episode_manager"),
          "true poses and the success test: for rendering and scoring only"),
    Topic(topics.CLOCK, "rosgraph_msgs/msg/Clock", "default", ("simulator",), (), "simulated time"),
    Topic(topics.DIAGNOSTICS, "diagnostic_msgs/msg/DiagnosticArray", "default", ("every node",), (),
          "one line of health a node a second"),
)  # fmt: skip

ARM_TOPICS: tuple[Topic, ...] = (
    Topic("robot/hold", "std_msgs/msg/String", "STATE", ("robot",), (),
          "why the bridge to an arm holds it; empty while it follows"),
)  # fmt: skip
"""Of the nodes in the simulator's place."""

SERVICES: tuple[Service, ...] = (
    Service(topics.RESET_SIMULATION, f"{_OWN}/srv/ResetSimulation", "simulator", "builds the start of an episode"),
    Service(topics.STEP_SIMULATION, f"{_OWN}/srv/StepSimulation", "simulator", "advances a stepped simulator"),
    Service(topics.ADD_CASE, f"{_OWN}/srv/AddFailureCase", "failure_memory", "stores a case durably"),
    Service(topics.GET_CASE, f"{_OWN}/srv/GetFailureCase", "failure_memory", "one case, whole"),
    Service(topics.SEARCH_CASES, f"{_OWN}/srv/SearchFailureCases", "failure_memory", "the nearest cases"),
    Service(topics.LIST_CASES, f"{_OWN}/srv/ListFailureCases", "failure_memory", "pages through the cases"),
    Service(topics.EDIT_CASE, f"{_OWN}/srv/EditFailureCase", "failure_memory", "changes correction, type or note"),
    Service(topics.RETIRE_CASE, f"{_OWN}/srv/RetireFailureCase", "failure_memory", "takes a case out of searches"),
    Service(topics.EXPORT_CASES, f"{_OWN}/srv/ExportFailureCases", "failure_memory", "writes cases to a file"),
    Service(topics.IMPORT_CASES, f"{_OWN}/srv/ImportFailureCases", "failure_memory", "reads cases from a file"),
    Service(topics.MEMORY_STATISTICS_SERVICE, f"{_OWN}/srv/GetMemoryStatistics", "failure_memory", "its statistics"),
    Service(topics.LOOP_STATISTICS_SERVICE, f"{_OWN}/srv/GetLoopStatistics", "controller", "its statistics"),
    Service(topics.EMERGENCY_STOP_SERVICE, "std_srvs/srv/Trigger", "controller", "latches the emergency stop"),
    Service(topics.EMERGENCY_STOP_RESET_SERVICE, "std_srvs/srv/Trigger", "controller", "releases the emergency stop"),
    Service(topics.IS_ACTIVE, "std_srvs/srv/Trigger", "lifecycle_manager", "whether all managed nodes work"),
    Service(topics.START_UP, "std_srvs/srv/Trigger", "lifecycle_manager", "configures and activates all of them"),
    Service(topics.PAUSE, "std_srvs/srv/Trigger", "lifecycle_manager", "deactivates all of them"),
    Service(topics.RESET_NODES, "std_srvs/srv/Trigger", "lifecycle_manager", "deactivates and frees all of them"),
    Service(topics.EXECUTE_TASK, f"{_OWN}/action/ExecuteTask", "episode_manager", "does one task (an action)"),
    Service(topics.ASK, f"{_OWN}/srv/Ask", "llm", "answers one question, by a schema if one is named"),
    Service(topics.EMBED_TEXT, f"{_OWN}/srv/EmbedText", "llm", "texts to vectors"),
    Service(topics.LIST_PROVIDERS, f"{_OWN}/srv/ListProviders", "llm", "which language models can be chosen"),
    Service(topics.SET_PROVIDER, f"{_OWN}/srv/SetProvider", "llm", "changes the language model"),
    Service(topics.GENERATE, f"{_OWN}/action/Generate", "llm", "answers while it is being written (an action)"),
    Service(topics.DELIBERATE_TASK, f"{_OWN}/action/DeliberateTask", "deliberation", "words to a checked plan"),
    Service(topics.APPROVE_PLAN, f"{_OWN}/srv/ApprovePlan", "deliberation", "a person's word on a plan that waits"),
)  # fmt: skip
