# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The labeling node's topics and services; it is started on request, beside any graph."""

from __future__ import annotations

from flow_rag_vla.bringup.endpoints import Service, Topic

LABELING = "labeling"

DETECTIONS = "labeling/detections"
OVERLAY = "labeling/overlay"
DETECT = "labeling/detect"
SEGMENT = "labeling/segment"
REGISTER_OBJECTS = "labeling/register_objects"
SEARCH_OBJECTS = "labeling/search_objects"
GET_OBJECT = "labeling/get_object"
UPDATE_OBJECT = "labeling/update_object"
LABEL_STATISTICS = "labeling/get_statistics"
AUTO_LABEL = "labeling/auto_label"
LABEL_BAG = "labeling/label_bag"
TRAIN_DETECTOR = "labeling/train_detector"
EVALUATE_DETECTOR = "labeling/evaluate_detector"
BUILD_DATASET = "labeling/build_dataset"

_OWN = "flow_rag_vla_interfaces"

LABELING_TOPICS: tuple[Topic, ...] = (
    Topic(DETECTIONS, f"{_OWN}/msg/DetectionArray", "SENSOR", (LABELING,), (),
          "what is seen in the camera's newest image; only if the parameter publish says so"),
    Topic(OVERLAY, "sensor_msgs/msg/Image", "SENSOR", (LABELING,), (),
          "the same drawn over the image; only while someone listens"),
)  # fmt: skip

LABELING_SERVICES: tuple[Service, ...] = (
    Service(DETECT, f"{_OWN}/srv/Detect", LABELING, "what is in one picture"),
    Service(SEGMENT, f"{_OWN}/srv/Segment", LABELING, "masks for boxes in one picture"),
    Service(REGISTER_OBJECTS, f"{_OWN}/srv/RegisterObjects", LABELING, "stores what was found, all or nothing"),
    Service(SEARCH_OBJECTS, f"{_OWN}/srv/SearchObjects", LABELING, "registered objects by attributes or likeness"),
    Service(GET_OBJECT, f"{_OWN}/srv/GetObject", LABELING, "one registered object"),
    Service(UPDATE_OBJECT, f"{_OWN}/srv/UpdateObject", LABELING, "corrects, accepts or rejects an object"),
    Service(LABEL_STATISTICS, f"{_OWN}/srv/GetLabelStatistics", LABELING, "how many there are, of what"),
    Service(AUTO_LABEL, f"{_OWN}/action/AutoLabel", LABELING, "labels a topic or a folder (an action)"),
    Service(LABEL_BAG, f"{_OWN}/action/LabelBag", LABELING, "labels a bag (an action)"),
    Service(TRAIN_DETECTOR, f"{_OWN}/action/TrainDetector", LABELING, "trains a detector on a dataset (an action)"),
    Service(EVALUATE_DETECTOR, f"{_OWN}/action/EvaluateDetector", LABELING, "measures a detector (an action)"),
    Service(BUILD_DATASET, f"{_OWN}/action/BuildDataset", LABELING, "makes a version of a dataset (an action)"),
)  # fmt: skip
