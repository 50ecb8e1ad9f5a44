"""The commands ``brainalign list`` and ``brainalign fetch``: which datasets there are, and how to have their files."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import click

from brainalign_cli.cache import human
from brainalign_cli.settings import settings_of

if TYPE_CHECKING:
    from pathlib import Path

    from brainalign.archives.archive import Archive
    from brainalign.datasets.archive_dataset import ArchiveDataset
    from brainalign.manifests import Manifest
    from brainalign.types import Dataset, Finding

__all__ = ["fetch", "list_command", "print_missing"]

WIDTH = 100
# Files named one by one without being asked to.
FEW = 10


class Names(click.ParamType):
    """Names separated by commas."""

    name = "names"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        """Give the names."""
        return tuple(name.strip() for name in value.split(",") if name.strip())


@click.command("list")
@click.argument("name", required=False)
@click.option("--verbose", is_flag=True, help="A page about each: what it is, how to have it, what can be set.")
def list_command(name: str | None, verbose: bool) -> None:
    """List the datasets, those first that are open and used most; with NAME, the page of one."""
    from brainalign.manifests import list_manifests, read_manifest

    manifests = sorted(
        (read_manifest(known) for known in ([name] if name else list_manifests())), key=lambda m: (m.rank, m.name)
    )
    if name or verbose:
        click.echo("\n\n".join(_page(manifest) for manifest in manifests))
        return
    width = max(len(manifest.name) for manifest in manifests)
    for manifest in manifests:
        start = f"{manifest.name:<{width}}  {'/'.join(manifest.modality):<17} "
        click.echo(textwrap.fill(manifest.title, WIDTH, initial_indent=start, subsequent_indent=" " * len(start)))


@click.command()
@click.argument("dataset")
@click.option("--subjects", type=Names(), help="Names, separated by commas; all by default.")
@click.option("--stimuli", type=Names(), help="Stories or sections, separated by commas; all by default.")
@click.option("--sessions", type=Names(), help="Sessions, separated by commas; all by default.")
@click.option("--kinds", type=Names(), help="Which of responses, words, sound; responses,words by default.")
@click.option(
    "--root",
    help="A copy of your own: what is there is verified and not fetched.",
)
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="A setting of the loader: radius_mm=10.")
@click.option("--anew", is_flag=True, help="Ask the archive anew for its files, and read those that are here again.")
@click.option("--dry-run", is_flag=True, help="Fetch nothing, only say what would be.")
@click.option("--verbose", is_flag=True, help="Name the files that are to come, however many.")
def fetch(
    dataset: str,
    subjects: tuple[str, ...] | None,
    stimuli: tuple[str, ...] | None,
    sessions: tuple[str, ...] | None,
    kinds: tuple[str, ...] | None,
    root: str | None,
    settings: tuple[str, ...],
    anew: bool,
    dry_run: bool,
    verbose: bool,
) -> None:
    """Download a dataset, or a part of it, and verify every byte that the archive has a checksum of.

    Says first what is to come. What is here already is not fetched again; a download that was interrupted goes on
    where it ended.
    """
    from brainalign.datasets import load_dataset
    from brainalign.datasets.archive_dataset import ArchiveDataset

    _tell_instructions(dataset, root)
    if anew:
        _list_anew(dataset)
    data = load_dataset(dataset, root=root, options=settings_of(settings))
    chosen = {"subjects": subjects, "stimuli": stimuli, "sessions": sessions, "kinds": kinds}
    if not isinstance(data, ArchiveDataset):
        _fetch_all_of(data, chosen, dry_run)
        return
    files = _files_by_kind(data, chosen)
    _print_plan(data, files, verbose or dry_run)
    if not dry_run:
        paths = [path for some in files.values() for path in some]
        findings = data.archive.fetch(paths, anew=anew)
        n_subjects = len(subjects or data.subjects)
        _print_done(f"{dataset}: the files of {n_subjects} subjects are here", _how_sure(data.archive, paths), findings)


def print_missing(data: ArchiveDataset) -> bool:
    """Whether files that a run needs are not here yet; says which, as ``fetch --dry-run`` does."""
    kinds = ("responses", "words", "sound") if data.sound else ("responses", "words")
    files = _files_by_kind(data, {"subjects": None, "stimuli": None, "sessions": None, "kinds": kinds})
    missing = [path for some in files.values() for path in some if not _is_here(data.archive, path)]
    if missing:
        _print_plan(data, files, name_files=len(missing) <= FEW)
    return bool(missing)


def _page(manifest: Manifest) -> str:
    """What there is to know of a dataset, in lines of at most `WIDTH` signs where no word is longer."""
    table = manifest.file_table()
    n_bytes, n_unknown = int(table["bytes"].sum()), int(table["bytes"].isna().sum())
    unheld = int((table["checksum"] == "").sum())
    files = f"{len(table)} files, {human(n_bytes)}" if len(table) else ""
    if n_unknown:
        files += f" and {n_unknown} of unknown size"
    if manifest.listing is not None and not files:
        files = "as the archive tells when asked"
    elif files:
        files += f", {'each' if unheld == 0 else f'all but {unheld}'} with a checksum"
    hours = "" if manifest.hours_per_subject is None else f", {manifest.hours_per_subject:g} hours each"
    rows = {
        "modality": ", ".join(manifest.modality),
        "languages": ", ".join(manifest.languages),
        "subjects": "" if manifest.n_subjects is None else f"{manifest.n_subjects}{hours}",
        "files": files,
        "verified": _verified(manifest) if files or manifest.instructions else "",
        "licence": manifest.licence,
        "cite": manifest.citation,
        "homepage": manifest.homepage or "",
        "to have it": _how_to_have(manifest),
    }
    head = f"{manifest.name}: {manifest.title}"
    lines = [*textwrap.wrap(head, WIDTH), "", *_row("", manifest.description, indent=2), ""]
    lines += [line for name, text in rows.items() if text for line in _row(name, text)]
    for number, setting in enumerate(_settings_of(manifest)):
        lines += _row("settings" if number == 0 else "", setting, indent=14)
    return "\n".join(lines)


def _row(name: str, text: str, indent: int = 14) -> list[str]:
    start = f"  {name:<{indent - 2}}" if name else " " * indent
    return textwrap.wrap(
        " ".join(text.split()),
        WIDTH,
        initial_indent=start,
        subsequent_indent=" " * indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _verified(manifest: Manifest) -> str:
    said = "with the archive's own list of files" if manifest.verified else "not yet with the archive's own list"
    return f"{said}; not verified: {manifest.unverified}" if manifest.unverified else said


def _how_to_have(manifest: Manifest) -> str:
    if manifest.instructions:
        return manifest.instructions
    return f"brainalign fetch {manifest.name}" if manifest.files or manifest.listing else ""


def _settings_of(manifest: Manifest) -> Iterable[str]:
    """The loader's parameters as they stand in its signature, with their defaults."""
    import inspect

    from brainalign.registry import DATASETS, find

    for parameter in inspect.signature(find(manifest.loader, DATASETS, "loader")).parameters.values():
        default = "must be given" if parameter.default is parameter.empty else repr(parameter.default)
        yield f"{parameter.name} = {default}  ({parameter.annotation})"


def _tell_instructions(dataset: str, root: str | None) -> None:
    """Stop where users must get the data themselves and have not said where they are."""
    from brainalign.errors import UnreachableError
    from brainalign.manifests import read_manifest

    manifest = read_manifest(dataset)
    if root is None and manifest.instructions and manifest.files is None and manifest.listing is None:
        click.echo("\n".join(textwrap.wrap(" ".join(manifest.instructions.split()), WIDTH)))
        raise UnreachableError(
            f"{dataset} cannot be fetched; the above says how to get it. Then name its folder: --root FOLDER."
        )


def _list_anew(dataset: str) -> None:
    from brainalign.archives.listings import listed_files
    from brainalign.manifests import read_manifest

    listing = read_manifest(dataset).listing
    if listing is not None:
        listed_files(dataset, listing, anew=True)


def _fetch_all_of(data: Dataset, chosen: Mapping[str, tuple[str, ...] | None], dry_run: bool) -> None:
    """Fetch a dataset that is in no archive: its subjects can be chosen, and nothing else."""
    from brainalign.errors import RecipeError

    for what in ("stimuli", "sessions", "kinds"):
        if chosen[what]:
            raise RecipeError(f"{data.name} is in no archive; --{what} chooses nothing of it.")
    if dry_run:
        click.echo(f"{data.name} is in no archive: nothing is to be fetched.")
        return
    findings = data.fetch(chosen["subjects"])
    _print_done(f"{data.name}: the files of {len(chosen['subjects'] or data.subjects)} subjects are here", "", findings)


def _files_by_kind(data: ArchiveDataset, chosen: Mapping[str, tuple[str, ...] | None]) -> dict[str, list[str]]:
    """The files chosen, each under the first kind that has it."""
    files: dict[str, list[str]] = {}
    for kind in chosen["kinds"] or ("responses", "words"):
        paths = data.files(chosen["subjects"], chosen["stimuli"], chosen["sessions"], (kind,))
        counted = {path for some in files.values() for path in some}
        files[kind] = [path for path in paths if path not in counted]
    return files


def _print_plan(data: ArchiveDataset, files: Mapping[str, Sequence[str]], name_files: bool) -> None:
    """What was asked for, how much of it is here, and what is to come."""
    from brainalign.files import cache_folder

    click.echo(f"{data.name}: {data.title}")
    archive = data.archive
    paths = [path for some in files.values() for path in some]
    missing = [path for path in paths if not _is_here(archive, path)]
    for kind, some in files.items():
        here = [path for path in some if _is_here(archive, path)]
        click.echo(f"  {kind:<11} {_sum(archive, some)}; here: {_sum(archive, here) if here else 'none'}")
    if not missing:
        click.echo("  to fetch    nothing")
        return
    left = _bytes_left(archive, missing)
    click.echo(f"  {'to fetch':<11} {_count(missing)}, {human(left)}, into {cache_folder('datasets', archive.name)}")
    if name_files and len(missing) > FEW and not click.get_current_context().params["verbose"]:
        click.echo(f"  --verbose names the {len(missing)} files.")
    elif name_files:
        for path in missing:
            size = _n_bytes(archive, path)
            click.echo(f"    {'?' if size is None else human(size):>9}  {path}")


def _sum(archive: Archive, paths: Sequence[str]) -> str:
    sizes = [_n_bytes(archive, path) for path in paths]
    unknown = f" and {sizes.count(None)} of unknown size" if None in sizes else ""
    return f"{_count(paths)}, {human(sum(size or 0 for size in sizes))}{unknown}"


def _count(paths: Sequence[str]) -> str:
    return f"{len(paths)} {'file' if len(paths) == 1 else 'files'}"


def _n_bytes(archive: Archive, path: str) -> int | None:
    """The size of a file, as the archive tells it or as it is; None where it is not known."""
    known = archive.table[path].size if path in archive.table else None
    place = archive.place(path)
    return place.stat().st_size if known is None and place.is_file() else known


def _is_here(archive: Archive, path: str) -> bool:
    """Whether the file seems to be here; whether it is right is found when it is fetched."""
    place: Path = archive.place(path)
    known = archive.table[path].size if path in archive.table else None
    return place.is_file() and known in (None, place.stat().st_size)


def _bytes_left(archive: Archive, missing: Iterable[str]) -> int:
    """Bytes to come: unfinished files need only their rest."""
    from brainalign.archives.part_files import size_of_part

    return sum(max(0, (_n_bytes(archive, path) or 0) - size_of_part(archive.place(path))) for path in missing)


def _how_sure(archive: Archive, paths: Sequence[str]) -> str:
    """What may be said of files that were compared with what the archive tells of them."""
    unheld = [path for path in paths if path not in archive.table or not archive.table[path].checksum]
    if not unheld:
        return " and verified"
    return f"; {len(unheld)} of {len(paths)} have no checksum to be verified by"


def _print_done(text: str, how_sure: str, findings: Iterable[Finding]) -> None:
    click.echo(f"{text}{how_sure}.")
    for finding in findings:
        click.echo(f"  {finding}")
