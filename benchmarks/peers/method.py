"""How every peer is timed. It needs nothing but Python, since each library has an environment of
its own."""

import json
import os
import statistics
import sys
import time


def cores():
    """How many cores the process may use, and so the threads of each library."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # only Linux says
        return os.cpu_count()


def duration(call):
    """Seconds of one call. What it returns is dropped when the clock has stopped."""
    start = time.perf_counter()
    result = call()
    seconds = time.perf_counter() - start
    del result
    return seconds


def repeats(seconds, least, most, budget):
    """How often a call of so many seconds is repeated: a slow one less often."""
    return max(least, min(most, int(budget / max(seconds, 1e-9))))


def is_due(turn, turns, wanted):
    """Whether a call that is wanted less often than there are turns is due: they spread evenly."""
    return turn * wanted // turns != (turn - 1) * wanted // turns


def alternate(calls, least=7, most=21, budget=1.0):
    """Calls everything in turns.

    Args:
        calls: Functions by name.
        least: How often each is called at least, after its first two calls.
        most: How often at most.
        budget: Seconds after which a call is not repeated more often than `least`.

    Returns:
        `{"times": {name: median in ms}, "repeats": {name: count}}`.
    """
    for call in calls.values():
        call()
    wanted = {name: repeats(duration(call), least, most, budget) for name, call in calls.items()}
    turns, seconds = max(wanted.values()), {name: [] for name in calls}
    for turn in range(1, turns + 1):
        for name, call in calls.items():
            if is_due(turn, turns, wanted[name]):
                seconds[name].append(duration(call))
    times = {name: 1000 * statistics.median(values) for name, values in seconds.items()}
    return {"times": times, "repeats": wanted}


def limits(case):
    """The arguments of `alternate` that a case asks for."""
    return {name: case[name] for name in ("least", "most", "budget") if name in case}


def serve(measure, **about):
    """Answers case after case, with an error where one fails, until the input ends.

    What libraries print goes to the error stream: answers alone reach the output.
    """
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        try:
            answer = measure(json.loads(line)) | about
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}".splitlines()[0][:300]}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()
