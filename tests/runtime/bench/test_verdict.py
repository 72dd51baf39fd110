"""What the verdict says, in each case that it knows."""

import pytest

from runtime.bench.verdict import lines, verdict
from tests.runtime.bench import found


def said(**more):
    return verdict(found.facts(**more))


def runs(**milliseconds):
    """Runs on two threads, whose middle 90 % are 0.9 to 1.3 of the median."""
    return [found.run(name.replace("_", "-"), 2, ms) for name, ms in milliseconds.items()]


@pytest.mark.parametrize(
    ("ms", "expected"),
    [
        (
            {"ours": 1, "ours_dense": 4, "torch": 2},
            "Sparsity pays here: with 12.5% of its weights, this net runs 4.00x as fast as with all of them. "
            "It is 2.00x as fast as the fastest other engine, torch.",
        ),
        (
            {"ours": 1, "ours_dense": 1.2, "torch": 0.5},
            "Sparsity makes no clear difference here: with 12.5% of its weights, this net runs 1.20x as fast as with "
            "all of them, and the middle 90 % of the runs of both overlap. Another engine is faster: torch, 2.00x as "
            "fast as ours.",
        ),
        (
            {"ours": 4, "ours_dense": 2, "torch": 5, "openvino": 4},
            "Sparsity does not pay here: with 12.5% of its weights, this net runs 0.50x as fast as with all of them. "
            "The fastest other engine, openvino, takes about as long: 1.00x.",
        ),
        (
            {"ours": 1},
            "This net keeps 12.5% of its weights. What that buys is told by the engine ours-dense. "
            "No other engine was measured.",
        ),
    ],
)
def test_the_headline(ms, expected):
    assert said(runs=runs(**ms)).headline == expected


def test_a_net_with_all_its_weights_has_nothing_to_save():
    whole = {**found.facts()["model"], "weights_kept": 1000}
    assert said(model=whole).headline.startswith("This net has all its weights: there is nothing that sparsity saves.")


def test_without_ours_there_is_no_verdict():
    assert said(runs=runs(torch=1)) is None
    assert said(model={"file_bytes": 1}, runs=runs(ours=1)) is None
    assert list(lines(found.facts(runs=runs(torch=1)))) == []


def test_what_is_left_and_what_is_not_shortened():
    reasons = said().reasons
    assert reasons[0] == "Of the dense net's multiply-adds 56.2% are left, of its time 25.0%."
    assert "1 of 1 layers with missing weights are faster than dense: from 4.0x (conv1) to 4.0x (conv1)." in reasons
    told = (
        "60% of the time is in layers that miss no weights: pool (30%), conv2 (30%). Sparsity does not shorten these."
    )
    assert told in reasons
    assert "6% of a run copies images in and results out, and starts threads: no weight changes that." in reasons
    assert len(reasons) == 4


def slow(**more):
    """A layer that takes as long as it does dense, and what is known of its shape."""
    shape = {**found.facts()["break_even"][0], "break_even": {"ours": 0.3, "fastest": 0.2}, **more}
    return {"layers": [found.layer("conv1+relu1", 0.5, 4e-4)], "break_even": [shape]}


def test_a_layer_that_gains_nothing_has_its_reason():
    reasons = said(**slow()).reasons
    assert "0 of 1 layers with missing weights are faster than dense: from 1.0x (conv1) to 1.0x (conv1)." in reasons
    start = "conv1 is not faster: density 0.50, 1.00 of its dense time."
    assert f"{start} Its shape is faster sparse only under a density of 0.30." in reasons
    assert "torch runs conv1 dense faster than ours sparse; ours would be faster under a density of 0.20." in reasons
    reasons = said(**{**slow(), "break_even": []}).reasons
    assert f"{start} Its kernel: density <low>." in reasons


def test_a_layer_that_another_engine_always_wins():
    reasons = said(**slow(break_even={"ours": 1.0, "fastest": 0.0})).reasons
    told = "torch runs conv1 dense faster than ours sparse; ours would be faster at no density measured, down to 0.05."
    assert told in reasons


def test_layers_that_memory_keeps():
    rows = [{**found.layer(f"c{i}", 0.1, 1e-4), "limited_by": "memory", "share_of_roof": 0.7} for i in range(5)]
    named = "c0, c1, c2 and 2 more"
    told = f"Moving data takes the time of {named}, not multiply-adds: dropping more weights would help little."
    assert told in said(layers=rows).reasons
    assert told not in said(layers=[{**row, "share_of_roof": 0.5} for row in rows]).reasons


def test_engines_that_fewer_threads_suit_better():
    one = [found.run("ours", 1, 1.2), found.run("ours-dense", 1, 7), found.run("torch", 1, 0.5)]
    told = [reason for reason in said(runs=one + runs(ours=1, ours_dense=4, torch=2)).reasons if "--threads" in reason]
    assert told == ["torch is faster with --threads 1 than 2: 500 us a batch, not 2 ms."]
    one = [found.run("torch", 1, 1.9)]  # by less than its runs scatter
    assert not any("--threads" in reason for reason in said(runs=one + runs(ours=1, torch=2)).reasons)


def test_a_disturbed_machine_comes_first():
    for disturbance in ({"busy_cores_meanwhile": 1.0}, {"busy_cores": 1.0}, {"throttled_s": 0.1}):
        machine = {**found.facts()["machine"], **disturbance}
        told = "Other programs or a CPU quota disturbed this: measure again"
        assert said(machine=machine).reasons[0].startswith(told)


def test_the_text():
    text = list(lines(found.facts()))
    assert text[:2] == ["", said().headline]
    assert text[2] == f"  - {said().reasons[0]}"
