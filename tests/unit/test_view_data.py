"""What the browser is sent: the buffer, the graph, the plan, the words on a node."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from flashmem_lab import workflow
from flashmem_lab.plan import Constraints, Objective
from flashmem_lab.plan.simulate import simulate
from flashmem_lab.plan.timeline import Lane, Pool
from flashmem_lab.units import Budget
from flashmem_lab.views.address_data import Object, address_data, first_fit
from flashmem_lab.views.details import node_details
from flashmem_lab.views.graph import GraphView
from flashmem_lab.views.graph_data import graph_data
from flashmem_lab.views.memory_data import memory_data
from flashmem_lab.views.plan_data import Forced, plan_data
from flashmem_lab.views.planning import Scale
from flashmem_lab.views.sweep import Place, knee, sweep_data
from flashmem_lab.views.wire import encode
from flashmem_lab.worker.sketch import preview, sketch
from flashmem_lab.workflow import Prepared
from flashmem_lab.zoo import make


def decode(data: bytes) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """As widgets/src/core/wire.ts reads it."""
    assert data[:4] == b"FML1"
    start = 8 + int.from_bytes(data[4:8], "little")
    header = json.loads(data[8:start])
    found = {}
    for name, entry in header.pop("arrays").items():
        offset = start + entry["at"]
        assert offset % 8 == 0, "a typed array begins at a multiple of its element's size"
        found[name] = np.frombuffer(data, f"<{entry['type']}", entry["length"], offset)
    return header, found


@given(
    st.dictionaries(
        st.text(min_size=1),
        st.sampled_from(["u1", "u4", "i4", "f4", "f8"]).flatmap(
            lambda kind: (
                arrays(kind, st.integers(0, 9), elements={"allow_nan": False})
                if kind.startswith("f")
                else arrays(kind, st.integers(0, 9))
            )
        ),
        max_size=4,
    ),
    st.text(),
)
def test_a_buffer_says_what_was_put_in(values: dict[str, np.ndarray], words: str) -> None:
    header, found = decode(encode("some/1", {"words": words}, values))
    assert header == {"schema": "some/1", "words": words}
    assert found.keys() == values.keys()
    for name, array in values.items():
        np.testing.assert_array_equal(found[name], array)


@pytest.fixture(scope="module")
def resnet(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    folder = tmp_path_factory.mktemp("models")
    return workflow.load(make("resnet50", folder), device=workflow.open_device("sim:adreno750"))


def test_the_graph_has_every_node_edge_and_weight(resnet: Prepared) -> None:
    header, found = decode(graph_data(resnet.graph, resnet.model))
    nodes = resnet.graph.nodes
    assert header["names"] == [node.name for node in nodes]
    assert [header["ops"][at] for at in found["op"]] == [node.op_type for node in nodes]
    assert [header["scopes"][at] for at in found["scope"]] == [node.scope for node in nodes]
    assert found["weightBytes"].sum() == sum(ref.length for ref in resnet.graph.weights.values())
    for source, target in found["edges"].reshape(-1, 2):
        assert source < target
        assert set(nodes[source].outputs) & set(nodes[target].inputs)
    for layer in resnet.model.layers:
        covered = found["coverNode"][found["coverLayer"] == layer.index]
        assert {nodes[at].name for at in covered} == set(layer.nodes)
    conv = next(at for at, node in enumerate(nodes) if node.op_type == "Conv")
    assert found["opClass"][conv] == 1
    bare = decode(graph_data(resnet.graph))[1]
    assert set(bare["opClass"]) == {5}
    assert bare["coverNode"].size == 0


def test_what_is_held_by_the_plan_peaks_as_predicted(resnet: Prepared) -> None:
    for share in (0.0, 0.3, 1.0):
        plan = workflow.make_plan(resnet, budget=Budget(share=share))
        name = (*plan.preloaded, *(one.weight for one in plan.streamed))[-1]
        plan = workflow.make_plan(
            resnet, budget=Budget(share=share), constraints=Constraints(preload=(name,))
        )
        sent = plan_data(resnet.model, plan, preview(resnet, plan))
        header, found = decode(sent)
        held = found["held"].reshape(-1, 3).sum(axis=1)
        assert held.max() == plan.predicted.peak_bytes
        assert header["weights"][found["forced"].argmax()] == name
        assert set(found["forced"]) == {Forced.FREE, Forced.PRELOAD}
        assert found["pinned"].sum() == len(plan.preloaded)
        streamed = found["pinned"] == 0
        assert (found["load"] <= found["first"])[streamed].all()
        assert (found["first"] <= found["last"]).all()
        assert (found["endMs"] >= found["beginMs"]).all()
        assert found["measuredMs"].size == 0
        moved = np.zeros(len(header["weights"]))
        np.add.at(moved, found["moveWeight"], found["moveBytes"])
        assert (moved >= found["bytes"])[streamed].all()


def test_words_on_a_node(resnet: Prepared) -> None:
    index = next(at for at, node in enumerate(resnet.graph.nodes) if node.op_type == "Conv")
    sections = {
        one["title"]: dict(one["rows"]) for one in node_details(resnet.graph, resnet.model, index)
    }
    assert sections["Attributes"]["strides"] == "[2, 2]"
    assert "RGBA texels" in " ".join(sections["On the device"].values())
    layer = next(rows for title, rows in sections.items() if title.startswith("Layer"))
    assert layer["kernel"].endswith(".cl")
    assert "float32 [64, 3, 7, 7]" in " ".join(sections["Weights in the file"].values())
    bare = {one["title"] for one in node_details(resnet.graph, None, index)}
    assert bare == {"Place", "Reads", "Writes", "Weights in the file", "Attributes"}


@pytest.mark.usefixtures("front_end")
def test_the_widget_answers_what_the_browser_asks(
    resnet: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    view = GraphView(resnet)
    said: list[dict[str, Any]] = []
    monkeypatch.setattr(view, "send", said.append)
    for asked in ({"kind": "details", "node": 3}, {"kind": "details", "node": 10**6}, {"kind": 0}):
        view._handle_custom_msg(asked, [])
    assert [one["node"] for one in said] == [3]
    assert said[0]["sections"] == node_details(resnet.graph, resnet.model, 3)
    assert decode(GraphView(resnet.graph).graph)[0]["name"] == "resnet50"
    assert decode(GraphView(Path(resnet.graph.path)).graph)[0] == decode(view.graph)[0]


def test_memory_says_what_is_held_over_time_and_over_layers(resnet: Prepared) -> None:
    plan = workflow.make_plan(resnet, budget=Budget(share=0.3))
    predicted = preview(resnet, plan)
    outcome = workflow.run(resnet, plan)
    measured = outcome.result.trace
    header, found = decode(memory_data(plan, predicted, measured))
    assert header["budgetBytes"] == plan.budget_bytes
    assert header["predictedEndMs"] == pytest.approx(plan.predicted.cold_ms, rel=1e-6)
    held = found["predictedHeld"].reshape(3, -1).sum(axis=0)
    assert held.max() == plan.predicted.peak_bytes
    layers = decode(plan_data(resnet.model, plan, predicted))[1]["held"]
    assert (found["measuredLayers"] == layers).all(), "the simulated device does as planned"
    assert (np.diff(found["measuredEnd"]) > 0).all()
    bare = decode(memory_data(plan, predicted))[1]
    assert bare["measuredMs"].size == bare["measuredLayers"].size == bare["measuredEnd"].size == 0


objects = st.lists(
    st.tuples(st.integers(0, 12), st.integers(0, 12), st.integers(1, 50)), max_size=30
).map(
    lambda rows: sorted(
        (
            Object(str(at), Pool.TEXTURE, min(a, b), max(a, b), size)
            for at, (a, b, size) in enumerate(rows)
        ),
        key=lambda one: one.first,
    )
)


@given(objects)
def test_no_two_objects_lie_in_one_place_at_once(made: list[Object]) -> None:
    places = first_fit(made)
    for i, one in enumerate(made):
        for j in range(i):
            other = made[j]
            together = one.first <= other.last and other.first <= one.last
            apart = places[i] >= places[j] + other.size or places[j] >= places[i] + one.size
            assert apart or not together
        # First fit: it touches the bottom, or something that was there below it.
        below = {places[j] + made[j].size for j in range(i) if made[j].last >= one.first}
        assert places[i] in {0, *below}


def test_addresses_have_every_object_of_a_plan(resnet: Prepared) -> None:
    plan = workflow.make_plan(resnet, budget=Budget(share=0.2))
    header, found = decode(address_data(resnet.model, plan))
    held = np.zeros(len(resnet.model.layers))
    for first, last, size in zip(found["first"], found["last"], found["size"], strict=True):
        held[first : last + 1] += size
    assert held.max() == plan.predicted.peak_bytes
    assert header["topBytes"] >= plan.predicted.peak_bytes


def test_a_knee_is_where_more_memory_stops_to_help() -> None:
    percents = [0.0, 25.0, 50.0, 75.0, 100.0]
    assert knee(percents, [100.0, 20.0, 15.0, 12.0, 10.0]) == 25
    assert knee(percents, [100.0, 99.5, 99.2, 99.0, 98.9]) is None, "hardly any difference"
    assert knee(percents, [100.0, 75.0, 50.0, 25.0, 0.0]) is None, "a straight line"


def test_a_sweep_marks_devices_that_hold_a_part_of_the_model(resnet: Prepared) -> None:
    places = []
    for percent in (0.0, 100.0):
        plan = workflow.make_plan(resnet, budget=Budget(share=percent / 100))
        places.append(Place(percent, plan, sketch(preview(resnet, plan))))
    scale = Scale(2_000_000_000, 10_000_000_000)
    header, found = decode(sweep_data(places, scale, Objective.COLD))
    marks = {label: percent for percent, label, _ in header["marks"]}
    assert marks["Xiaomi Mi 6"] == 50
    assert marks["Pixel 8, Raspberry Pi 5"] == 75
    assert "OnePlus 12" not in marks, "it holds the whole model"
    for at, one in enumerate(places):
        for name in ("overTime", "overLayers"):
            curve = found[name].reshape(2, -1)[at]
            assert curve.max() == pytest.approx(one.plan.predicted.peak_bytes)


def test_moves_by_weight_take_as_long_as_moves_by_chunk(resnet: Prepared) -> None:
    plan = workflow.make_plan(resnet, budget=Budget(share=0.3))
    fine = simulate(plan, resnet.model, resnet.device)
    coarse = simulate(plan, resnet.model, resnet.device, by_weight=True)
    assert coarse.samples == fine.samples
    for lane in Lane:
        one, other = ([e for e in t.events if e.lane is lane] for t in (fine, coarse))
        assert sum(e.bytes for e in one) == sum(e.bytes for e in other)
        assert [min(e.start_ns for e in one), max(e.end_ns for e in one)] == [
            min(e.start_ns for e in other),
            max(e.end_ns for e in other),
        ]
    moved = [(e.run, e.weight) for e in coarse.events if e.lane is Lane.DISK]
    assert len(moved) == len(set(moved))
