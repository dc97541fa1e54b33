"""An instance built in Python has the durations and links that its numbers say."""

from __future__ import annotations

import numpy as np
import pytest

from pathloom.data.network import measured_network
from pathloom.plan import InputError
from pathloom.worlds.train.instance import Times, link_seconds, node_names, pipeline_instance, round_robin


def test_nodes_are_numbered_within_their_region() -> None:
    assert node_names(round_robin(["Iowa", "LA"], 5)) == ("Iowa-1", "LA-1", "Iowa-2", "LA-2", "Iowa-3")


def test_unequal_nodes_and_stages_multiply() -> None:
    problem = pipeline_instance(
        ["Iowa", "LA", "London"],
        measured_network("gcp12"),
        stages=[2, 1],
        layer_seconds=[0.1, 0.2, 0.4],
        stage_layers=[1, 3],
        samples=2,
        memory=[1, 2, 3],
        microbatches=2,
        times=Times(backward=2.0, weight=0.25, loss=0.5),
    )
    assert problem.forward == pytest.approx(np.array([[0.2, 0.6], [0.4, 1.2], [0.8, 2.4]]))
    assert problem.backward == pytest.approx(2 * problem.forward)
    assert problem.weight == pytest.approx(0.5 * problem.forward)
    assert problem.loss == pytest.approx(0.5 * problem.forward[:, 0])
    assert problem.memory.tolist() == [1, 2, 3]
    assert problem.route_length == 2


def test_two_nodes_of_one_region_use_the_inside_link_and_a_node_reaches_itself_at_once() -> None:
    seconds = link_seconds(measured_network("gcp12"), ["Iowa", "Iowa"], 2.0 * 2**30, 0.35)
    assert seconds == pytest.approx(np.array([[0, 1.351], [1.351, 0]]))


def test_gradients_move_over_the_same_links_without_the_activations_overhead() -> None:
    network = measured_network("gcp12")
    problem = pipeline_instance(["Iowa", "LA"], network, stages=1, microbatches=1, gradient_bytes=2.0**30)
    i, j = network.index("Iowa"), network.index("LA")
    assert problem.sync_latency is not None and problem.sync_seconds is not None
    assert problem.sync_latency[0, 1] == network.delay_s[i, j]
    assert problem.sync_seconds[0, 1] == pytest.approx(2.0**30 / network.bytes_per_s[i, j])
    assert problem.sync_latency[0, 0] == problem.sync_seconds[0, 0] == 0


def test_a_region_outside_the_network_is_an_input_error() -> None:
    with pytest.raises(InputError, match="did you mean 'Iowa'"):
        pipeline_instance(["Iwoa"], measured_network("gcp12"), stages=1)
