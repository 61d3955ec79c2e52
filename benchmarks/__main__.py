"""`python -m benchmarks`: measures, and writes results.json, results.md and ratios.png."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks import cases, figure, report, runner

RESULTS = Path(__file__).parent / "results"
console = Console()


def sizes(text):
    """A shape, as in 8,128,128,64."""
    return tuple(int(size) for size in text.split(","))


def planned(quick, parts, shapes, paths, repeats, libraries):
    """The plan with what the command line narrows."""
    plan = cases.QUICK_PLAN if quick else cases.Plan()
    given = {
        "parts": tuple(parts or ()),
        "shapes": tuple(map(sizes, shapes or ())),
        "paths": tuple(paths or ()),
        "libraries": tuple(libraries or ()),
    }
    plan = replace(plan, **{name: value for name, value in given.items() if value})
    if repeats:
        plan = replace(plan, limits={"least": repeats, "most": repeats, "budget": 0.0})
    for library in filter(runner.missing, plan.libraries if "others" in plan.parts else ()):
        console.print(f"[yellow]{library} is left out: `make bench` sets up its environment.")
        left = tuple(name for name in plan.libraries if name != library)
        plan = replace(plan, libraries=left)
    return plan


def describe(case):
    """A case in a few words, for the progress."""
    what = case.get("library") or case.get("layer") or case["set"]
    size = "×".join(map(str, case["shape"]))
    words = (case["part"], what, size, case.get("dtype"), case.get("path"), case.get("pass"))
    return " ".join(filter(None, words))


def measure(planned_cases, results, shared):
    """Runs the cases with a bar and says whether it came to the end."""
    columns = (BarColumn(20), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, TextColumn("{task.description}"), console=console) as progress:
        task = progress.add_task("", total=len(planned_cases), completed=-1)
        try:
            runner.run(
                planned_cases,
                results,
                shared,
                lambda case: progress.update(task, advance=1, description=describe(case)),
            )
            progress.update(task, completed=len(planned_cases), description="done")
        except KeyboardInterrupt:
            console.print("[yellow]Interrupted. `--resume` goes on from what is kept.")
            return False
    return True


def write(results, folder):
    """The table and the figure beside the records."""
    text = report.markdown(results)
    runner.replace(folder / "results.md", lambda path: path.write_text(text))
    files = ["results.json", "results.md"]
    if figure.lines_of(results):
        runner.replace(folder / "ratios.png", lambda path: figure.draw(results, path))
        files.append("ratios.png")
    console.print(f"Written to {folder}: {', '.join(files)}")


def main(
    quick: Annotated[bool, typer.Option(help="Headlines only, printed only")] = False,
    output: Annotated[Path | None, typer.Option(help="Folder of the results")] = None,
    resume: Annotated[bool, typer.Option(help="Measure only what the folder lacks")] = False,
    part: Annotated[list[str] | None, typer.Option(help=" ".join(cases.PARTS))] = None,
    shape: Annotated[list[str] | None, typer.Option(help="As in 8,128,128,64")] = None,
    path: Annotated[list[str] | None, typer.Option(help=" ".join(cases.PATHS))] = None,
    library: Annotated[list[str] | None, typer.Option(help=" ".join(cases.OTHERS))] = None,
    repeats: Annotated[int, typer.Option(help="Exactly so many; 0: as time allows")] = 0,
    one_process: Annotated[bool, typer.Option(help="Start up once; for trials")] = False,
):
    """Measures how fast the layers are beside others and beside what the memory allows."""
    plan = planned(quick, part, shape, path, repeats, library)
    folder = output or (None if quick else RESULTS)
    results = runner.Results(folder and folder / "results.json", resume)
    finished = measure(cases.cases(plan), results, one_process)
    if report.select(results, part="layers"):
        console.print(report.headlines(results))
    for record in results.records:
        if "error" in record:
            console.print(f"[red]{describe(record)}: {record['error']}", highlight=False)
    if folder:
        write(results, folder)
    failed = any("error" in record for record in results.records)
    raise typer.Exit(int(failed) if finished else 130)


if __name__ == "__main__":
    typer.run(main)
