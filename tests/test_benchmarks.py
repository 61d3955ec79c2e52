"""The benchmarks run and write what they promise; nothing here depends on how long a call takes."""

import json
import math
import subprocess
import sys
from pathlib import Path

import matplotlib.image
import pytest
import tensorflow as tf

from benchmarks import cases, lite, memory, models, report, runner
from benchmarks.arithmetic import floor, geometric_mean, normalized_ratio, over_floor, ratio
from benchmarks.peers.method import alternate, is_due, repeats

ROOT = Path(__file__).parents[1]
RECORD = {
    "pass": "step",
    "times": {"ours": 10.0, "theirs": 40.0},
    "copies": {"ours": 2.0, "theirs": 4.0},
}


def test_a_floor_is_so_many_halves_of_a_copy():
    assert floor(2.0, "forward") == 3.0
    assert floor(2.0, "step") == 8.0
    assert over_floor(RECORD, "ours") == 10 / 8
    assert over_floor(RECORD, "theirs") == 40 / 16


def test_a_ratio_is_above_one_where_ours_is_faster():
    assert ratio(RECORD, "ours", "theirs") == 4.0
    assert normalized_ratio(RECORD, "ours", "theirs") == 2.0


def test_geometric_means():
    assert geometric_mean([]) is None
    assert geometric_mean(value for value in (2.0, 8.0)) == pytest.approx(4.0)
    slow = RECORD | {"times": {"ours": 10.0, "theirs": 10.0}}
    failed = {"pass": "step", "error": "no"}
    summary = report.summarize([RECORD, slow, failed], "ours", "theirs")
    assert summary.ratio == pytest.approx(2.0)
    assert summary.normalized == pytest.approx(1.0)
    assert summary.over_floor == pytest.approx(1.25)
    assert report.summarize([failed], "ours", "theirs") == report.Summary()


def test_slow_calls_are_repeated_less_often_and_evenly():
    assert [repeats(s, 3, 9, 1.0) for s in (0.0, 0.2, 5.0)] == [9, 5, 3]
    assert [turn for turn in range(1, 10) if is_due(turn, 9, 3)] == [3, 6, 9]


def test_calls_alternate_and_the_first_are_left_out():
    called = []
    calls = {name: lambda name=name: called.append(name) for name in "ab"}
    answer = alternate(calls, least=2, most=2)
    assert "".join(called) == "abab" + "abab"
    assert answer["repeats"] == {"a": 2, "b": 2}
    assert set(answer["times"]) == {"a", "b"}


def test_memory_counts_what_the_backward_pass_reads():
    shape, size = (4, 8), 4 * 4 * 8
    assert memory.kept_by(lambda x: x * 3.0, shape) == 0
    assert memory.kept_by(tf.square, shape) == size
    assert memory.kept_by(lambda x: tf.reshape(tf.exp(x), [8, 4]), shape) == size
    assert memory.kept_by(lambda x: tf.square(tf.exp(x)), shape) == size
    assert memory.kept_by(lambda x: x * tf.sin(x), shape) == 2 * size


def test_memory_counts_what_weights_need():
    weight = tf.Variable([2.0])
    assert memory.kept_by(lambda x: x * weight, (4, 8)) == 4 * 4 * 8


def test_an_interrupted_run_keeps_what_it_has(tmp_path):
    file = tmp_path / "results.json"
    plan = cases.Plan(parts=("layers",))
    first, second = cases.cases(plan)[:2]
    results = runner.Results(file)
    results.add({"key": cases.key(first), "times": {}})
    results.add({"key": cases.key(second), "error": "interrupted"})
    resumed = runner.Results(file, resume=True)
    assert resumed.done == {cases.key(first)}
    assert runner.Results(file).records == []
    assert list(tmp_path.iterdir()) == [file]


def test_every_case_is_told_from_every_other_and_every_row_has_some():
    found = cases.cases(cases.Plan())
    assert len({cases.key(case) for case in found}) == len(found)
    for row in cases.ROWS:
        sets = [case for case in found if case["part"] == "layers" and case["set"] == row.set]
        assert {case["dtype"] for case in sets} == set(cases.DTYPES)
        assert all({row.layer, row.peer} <= set(case["contestants"]) for case in sets)


def test_a_peer_answers_case_by_case_and_says_what_failed():
    peer = (
        "from benchmarks.peers.method import serve\n"
        "def measure(case):\n"
        "    print('a library may chat')\n"
        "    return {'half': 2 / case['n']}\n"
        "serve(measure, versions={'peer': '1'})\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", peer],
        cwd=ROOT,
        input='{"n": 4}\n{"n": 0}\n',
        capture_output=True,
        text=True,
    )
    half, failed = map(json.loads, done.stdout.splitlines())
    assert half == {"half": 0.5, "versions": {"peer": "1"}}
    assert failed == {"error": "ZeroDivisionError: division by zero"}


def test_an_answer_of_two_processes_keeps_each_ones_copy():
    ours = {"times": {"A": 1.0, "copy": 2.0, "read": 3.0}, "repeats": {"A": 7}, "versions": {}}
    theirs = {"times": {"A": 4.0, "copy": 5.0, "read": 6.0}, "repeats": {"A": 9}, "versions": {}}
    joined = runner.joined(runner.with_floor(ours), runner.with_floor(theirs), "torch", "A")
    assert joined["times"] == {"A": 1.0, "torch": 4.0}
    assert joined["copies"] == {"A": 2.0, "torch": 5.0}
    assert runner.joined(ours, {"error": "no"}, "torch", "A") == {"error": "no"}


def test_a_run_writes_records_tables_and_a_figure(tmp_path):
    command = [sys.executable, "-m", "benchmarks", "--quick", "--one-process", "--repeats=1"]
    done = subprocess.run(
        [*command, "--shape=2,4,4,32", "--shape=2,4,32", "--part=layers", f"--output={tmp_path}"],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    records = json.loads((tmp_path / "results.json").read_text())["records"]
    assert all(time > 0 for record in records for time in record["times"].values())
    table = (tmp_path / "results.md").read_text()
    for row in cases.ROWS:
        measured = [record for record in records if row.set == record["set"]]
        assert {record["path"] for record in measured} == {"graph", "xla"}
        assert all({row.layer, row.peer} <= set(record["times"]) for record in measured)
        (line,) = [line for line in table.split("##")[1].splitlines() if row.title in line]
        assert report.NONE not in line
    height, width, _ = matplotlib.image.imread(tmp_path / "ratios.png").shape
    assert min(height, width) > 300


def test_a_model_without_norms_has_everything_else():
    model = models.BUILDERS["MobileNetV2"]((32, 32, 3))
    kinds = [type(layer) for layer in model.layers]
    assert kinds.count(models.keras.layers.BatchNormalization) == 52
    bare = models.without_norms(model)
    rest = [models.Nothing if issubclass(kind, models.NORMS) else kind for kind in kinds]
    assert [type(layer) for layer in bare.layers] == rest
    assert bare.output_shape == model.output_shape


def test_the_table_of_models_says_what_is_gained_and_what_could_be():
    times = {cases.AS_IT_COMES: 600.0, cases.ACCELERATED: 400.0, cases.WITHOUT_NORMS: 300.0}
    results = runner.Results()
    results.records = [
        {"part": "models", "model": "ResNet50", "path": "graph", "times": times},
        {"part": "models", "model": "ResNet50", "path": "xla", "error": "no"},
    ]
    *_, measured, failed = report.models(results).strip().splitlines()
    assert measured == "| ResNet50 | graph | 600 | 400 | 300 | 1.50 | 2.00 |"
    assert failed == "| ResNet50 | xla |" + " – |" * 5


def test_exported_files_are_timed_and_judged():
    times = lite.latency(lite.Pair("tiny", *lite.GROUP, (2,), (4, 4, 8), None, 1))
    assert set(times) == {"ours", "keras"} and min(times.values()) > 0
    assert lite.sqnr([1.0, 1.1], [1.0, 1.0]) == pytest.approx(10 * math.log10(2 / 0.01))
    assert 0 < lite.float_error(lite.FLOATS[0], 1000) < 1e-5
