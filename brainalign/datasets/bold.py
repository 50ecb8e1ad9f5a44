"""From opened images of an fMRI run to its recording."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

from brainalign.archives.archive import Archive
from brainalign.archives.verified import checksum_of
from brainalign.datasets.archive_dataset import Run
from brainalign.files import digest_of
from brainalign.reading.confounds import confounds_findings, read_confounds_table
from brainalign.reading.images import Images
from brainalign.reading.volumes import Volumes
from brainalign.types import Clock, Finding, Recording

__all__ = ["bold_recording", "with_reference"]


def bold_recording(
    run: Run,
    images: Images,
    archive: Archive,
    settings: Volumes | None,
    *,
    offset_s: float,
    start_s: float = 0.0,
    mask: Path | None = None,
    reference: Path | None = None,
    parcels: Sequence[Path] = (),
    confounds: Path | None = None,
    columns: Sequence[str] | None = None,
    findings: Sequence[Finding] = (),
) -> Recording:
    """The recording of a run whose images were opened.

    Parameters
    ----------
    run : Run
    images : Images
        As `open_volumes` and its like give them.
    archive : Archive
        Of the run's files, for their checksums.
    settings : Volumes or None
        What `images` were opened with; None for surfaces.
    offset_s : float
        Seconds of the scan at which the stimulus starts.
    start_s : float
        Seconds of the scan at which the first volume is.
    mask : Path, optional
        The mask that came with the data.
    reference : Path, optional
        The run of which the mask was computed.
    parcels : sequence of Path
        The files of the parcels over which surfaces or grayordinates were averaged.
    confounds : Path, optional
        A table of what is to be regressed out, one row per volume.
    columns : sequence of str, optional
        Which of its columns, see `read_confounds_table`.
    findings : sequence of Finding
        What the loader has to tell besides.
    """
    clock = Clock(images.tr_s, start_s)
    content = {
        "files": archive.digest(run.responses),
        "settings": None if settings is None else {key: _content(value) for key, value in asdict(settings).items()},
        "mask": None if mask is None else _content(mask),
        "reference": None if reference is None else _content(reference),
        "parcels": [_content(path) for path in parcels],
        "clock": [clock.step_s, clock.start_s, offset_s],
        "confounds": None if confounds is None else [_content(confounds), columns],
    }
    if confounds is not None:
        findings = [*findings, *confounds_findings(confounds, columns, str(run))]
    return Recording(
        subject=run.subject,
        run=run.run,
        stimulus=run.stimulus,
        modality="fmri",
        clock=clock,
        offset_s=offset_s,
        targets=images.targets,
        read=images.read,
        digest=digest_of(content),
        read_confounds=None
        if confounds is None
        else partial(read_confounds_table, confounds, columns, images.n_volumes),
        space=images.space,
        steps=images.steps,
        findings=(*images.findings, *findings),
    )


def with_reference(runs: Sequence[Run], settings: Volumes) -> list[Run]:
    """The runs, each with the first of its subject's as a sidecar where the mask is to be computed of that.

    Examples
    --------
    >>> runs = [Run("01", str(i), "story", (f"{i}.nii.gz",)) for i in (1, 2)]
    >>> [run.sidecars for run in with_reference(runs, Volumes())]
    [('1.nii.gz',), ('1.nii.gz',)]
    """
    if settings.mask is not None:
        return list(runs)
    first = {run.subject: run.responses[0] for run in reversed(runs)}
    return [replace(run, sidecars=(*run.sidecars, first[run.subject])) for run in runs]


def _content(value: Any) -> Any:
    """A setting, a file by what is in it."""
    return checksum_of(value, "sha256") if isinstance(value, Path) else value
