"""The command `keras-norm`: one subcommand per verb. It parses and prints, and no more."""

from pathlib import Path
from typing import Annotated, Any

import typer
import typer.core


class _Group(typer.core.TyperGroup):
    """Turns an error of the package into one red line and exit code 2."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except (typer.Exit, typer.Abort):
            raise  # These two are RuntimeErrors, by which commands end as they mean to.
        except (ImportError, OSError, RuntimeError, TypeError, ValueError) as error:
            # The rule comes first, and the cause last: between them stands a file's traceback.
            lines = str(error).splitlines()
            line = " ".join(lines[:1] + lines[1:][-1:])
            typer.secho(f"Error: {line}", fg=typer.colors.RED, err=True)
            raise typer.Exit(2) from error


app = typer.Typer(
    cls=_Group,
    no_args_is_help=True,
    add_completion=False,
    help="Normalization layers of Keras: what there is, and models with them as files.",
)

Model = Annotated[Path, typer.Argument(metavar="MODEL.keras", help="A model that Keras saved.")]


def main() -> None:
    """Runs the command line; the console script `keras-norm` calls it."""
    app()


def _show_version(wanted: bool) -> None:
    if wanted:
        from keras_norm import __version__

        typer.echo(f"keras_norm {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Options of the command itself."""


@app.command("list")
def list_layers() -> None:
    """Show every layer: what its statistics run over, its defaults, its paper."""
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.markdown import Markdown
    from rich.table import Table

    from keras_norm.catalog import catalog

    table = Table(box=SIMPLE, pad_edge=False)
    for heading in catalog.COLUMNS:
        # A name that is cut off cannot be looked up; everything else may wrap.
        table.add_column(heading, no_wrap=heading == "layer", overflow="fold")
    for *cells, paper in catalog.cells():
        table.add_row(*cells, Markdown(paper))
    Console().print(table)


@app.command()
def invariances(
    layers: Annotated[
        list[str] | None,
        typer.Argument(metavar="[LAYER]...", help="Names of `keras-norm list`; all if none."),
    ] = None,
) -> None:
    """Measure which changes of weights and data leave a layer's output alone."""
    from keras_norm import report
    from keras_norm.catalog import catalog

    if not layers:
        typer.echo(report.invariance_table())
    for row in [catalog[name] for name in layers or []]:
        typer.echo(report.invariances(row.example(), row.input_shape))


@app.command()
def export_saved_model(
    model: Model,
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The folder to write.")],
) -> None:
    """Write a model as a TensorFlow SavedModel folder for serving."""
    from keras_norm import export

    typer.echo(f"Wrote {export.export_saved_model(_load(model), out)}")


@app.command()
def export_litert(
    model: Model,
    out: Annotated[Path, typer.Argument(metavar="OUT.tflite", help="The file to write.")],
    input_shape: Annotated[
        str | None,
        typer.Option(
            metavar="SIZES",
            help="The input's shape with its batch size, such as 1,28,28,1; `none` leaves a size "
            "free. The model's own with a batch size of 1 if not given.",
        ),
    ] = None,
) -> None:
    """Write a model as a LiteRT (.tflite) file for phones and microcontrollers."""
    from keras_norm import export

    shape = None if input_shape is None else _shape(input_shape)
    typer.echo(f"Wrote {export.export_litert(_load(model), out, input_shape=shape)}")


@app.command()
def accelerate(
    model: Model,
    out: Annotated[Path, typer.Argument(metavar="OUT.keras", help="The file to write.")],
) -> None:
    """Exchange Keras's own norms in a model for those of this package, which train faster."""
    from keras_norm.surgery import replace

    _check_suffix(out)
    _save(replace.accelerate(_load(model, compiled=True), print_fn=typer.echo), out)


@app.command()
def migrate(
    old: Annotated[
        Path,
        typer.Argument(metavar="OLD", help="A .h5 or .keras file or SavedModel folder of Keras 2."),
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT.keras", help="The file to write.")],
) -> None:
    """Turn a model of Keras 2 and TensorFlow Addons or keras-contrib into one of Keras 3."""
    from keras_norm.surgery.foreign.load import load_foreign

    _check_suffix(out)
    _save(load_foreign(old, print_fn=typer.echo), out)


@app.command()
def verify(
    model: Model,
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="A .keras, .h5 or .tflite file, or a SavedModel.")
    ],
) -> None:
    """Run a file in a process of its own and compare it with the model (exit status 1: differs)."""
    from keras_norm import export

    result = export.verify(_load(model), file)
    typer.echo(result)
    if not result.passed:
        raise typer.Exit(1)


def _check_suffix(out: Path) -> None:
    if out.suffix != ".keras":
        raise ValueError(
            "`OUT.keras` must be a file that ends in `.keras`. "
            f"Received: {str(out)!r}. Choose such a name."
        )


def _save(model: Any, out: Path) -> None:
    from keras_norm.export.placing import placed

    with placed(out) as path:
        whole = path.with_name("new.keras")  # Keras insists on the suffix
        try:
            model.save(whole)
            whole.rename(path)
        finally:
            whole.unlink(missing_ok=True)
    typer.echo(f"Wrote {out}")


def _load(path: Path, compiled: bool = False) -> Any:
    import keras

    return keras.saving.load_model(path, compile=compiled)


def _shape(text: str) -> tuple[int | None, ...]:
    """`1,28,none,1` as a tuple of sizes."""
    sizes = [size.strip().lower() for size in text.split(",")]
    if not all(size == "none" or size.isdecimal() for size in sizes):
        raise ValueError(
            "`--input-shape` must be sizes with commas between them, each a positive integer or "
            f"`none`. Received: {text!r}. Pass for example 1,28,28,1."
        )
    return tuple(None if size == "none" else int(size) for size in sizes)
