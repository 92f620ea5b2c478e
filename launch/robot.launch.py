"""A real arm: ``ros2 launch flow_rag_vla robot.launch.py profile:=franka``, ``--show-args`` lists all arguments.

The nodes, their parameters and the arguments come from ``flow_rag_vla.bringup.robot_graph``, which the console
command ``flow_rag_vla robot`` reads too.
"""

from launch.actions import DeclareLaunchArgument, OpaqueFunction, Shutdown
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from flow_rag_vla.bringup.graph import Process
from flow_rag_vla.bringup.resources import default_params_file
from flow_rag_vla.bringup.robot_graph import ROBOT_ARGUMENTS, robot_graph
from flow_rag_vla.bringup.supervisor import RESPAWN_DELAY_S
from launch import LaunchContext, LaunchDescription


def launch_node(process: Process) -> Node:
    """The launch action that starts one process of the graph."""
    return Node(
        package="flow_rag_vla",
        executable=process.spec.name,
        name=process.spec.name,
        namespace=process.namespace,
        parameters=[process.params_file, process.overrides],
        arguments=["--ros-args", "--log-level", process.log_level],
        output="screen",
        emulate_tty=True,
        respawn=process.spec.respawn,
        respawn_delay=RESPAWN_DELAY_S,
        on_exit=None if process.spec.respawn else Shutdown(reason=f"{process.spec.name} ended"),
    )


def start_graph(context: LaunchContext) -> list[Node]:
    """The nodes, once the arguments have their values."""
    values = {argument.name: LaunchConfiguration(argument.name).perform(context) for argument in ROBOT_ARGUMENTS}
    return [launch_node(process) for process in robot_graph(values, default_params_file())]


def generate_launch_description() -> LaunchDescription:
    """Described arguments, then the graph."""
    arguments = [
        DeclareLaunchArgument(
            argument.name,
            default_value=argument.default,
            description=argument.description,
            choices=list(argument.choices) or None,
        )
        for argument in ROBOT_ARGUMENTS
    ]
    return LaunchDescription([*arguments, OpaqueFunction(function=start_graph)])
