"""Confounds: the columns that were asked for, as nilearn chooses and fills them, and nothing that cannot be."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from images import fmriprep_confounds, write_confounds
from nilearn.interfaces.fmriprep import load_confounds

from brainalign.errors import DataError, RecipeError
from brainalign.reading.confounds import STRATEGIES, confounds_findings, read_confounds_table

TABLE = fmriprep_confounds(20)
NAME = "sub-01_task-black_desc-confounds_timeseries.tsv"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_confounds(tmp_path / NAME, TABLE)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_strategies_are_nilearn_s(strategy: str, path: Path) -> None:
    image = path.with_name("sub-01_task-black_space-MNI152NLin2009cAsym_desc-preproc_bold.nii.gz")
    expected, _ = load_confounds(str(image), demean=False, **STRATEGIES[strategy])
    found = read_confounds_table(path, [strategy], n_volumes=20)
    pd.testing.assert_frame_equal(found, expected[found.columns], check_names=False)
    assert found.shape == expected.shape
    assert np.isfinite(found.to_numpy()).all()


def test_strategies_hold_the_columns_they_are_named_for(path: Path) -> None:
    columns = {name: list(read_confounds_table(path, [name])) for name in STRATEGIES}
    assert sorted(columns["motion"]) == sorted(f"{kind}_{axis}" for kind in ("trans", "rot") for axis in "xyz")
    assert len(columns["motion24"]) == 24
    assert sorted(columns["wm_csf"]) == ["csf", "white_matter"]
    assert columns["cosine"] == ["cosine00", "cosine01", "cosine02"]
    # The first two components are of another mask.
    assert [name for name in columns["acompcor"] if "comp" in name] == [f"a_comp_cor_{i:02d}" for i in range(2, 7)]


def test_columns_and_strategies_may_be_mixed_and_come_once(path: Path) -> None:
    found = read_confounds_table(path, ["cosine01", "cosine", "csf_power2"])
    assert list(found) == ["cosine01", "cosine00", "cosine02", "csf_power2"]
    np.testing.assert_allclose(found["csf_power2"], TABLE["csf_power2"])


@pytest.mark.parametrize("name", ["confounds.csv", "sub-01_desc-confounds_regressors.tsv", "motion.tsv"])
def test_any_table_gives_all_its_columns(name: str, tmp_path: Path) -> None:
    table = TABLE[["trans_x", "rot_z"]]
    table.to_csv(tmp_path / name, sep="," if name.endswith("csv") else "\t", index=False)
    pd.testing.assert_frame_equal(read_confounds_table(tmp_path / name), table)
    assert confounds_findings(tmp_path / name, None, "s1") == []


def test_what_the_first_row_lacks_is_the_second_row_s_and_is_told(path: Path) -> None:
    wanted = ["csf", "csf_derivative1", "rot_x_derivative1_power2"]
    found = read_confounds_table(path, wanted)
    expected = TABLE[wanted].bfill()
    np.testing.assert_allclose(found, expected)
    assert TABLE[wanted].iloc[0].isna().sum() == 2
    [finding] = confounds_findings(path, wanted, "subject s1, run 1")
    assert finding.code == "first-row-filled"
    assert str(finding).startswith("subject s1, run 1: 2 confounds")
    assert finding.message.endswith("csf_derivative1, rot_x_derivative1_power2.")


def test_unsteady_volumes_are_kept_and_told(tmp_path: Path) -> None:
    table = TABLE.assign(non_steady_state_outlier00=np.eye(20)[0], non_steady_state_outlier01=np.eye(20)[1])
    path = write_confounds(tmp_path / NAME, table)
    assert read_confounds_table(path, ["motion"]).shape == (20, 6)
    [finding] = confounds_findings(path, ["motion"], "s1")
    assert finding.code == "non-steady-state"
    assert "marks 2 volumes" in finding.message


def test_another_number_of_rows_than_volumes_is_an_error(path: Path) -> None:
    with pytest.raises(DataError, match=rf"{NAME}: 20 rows of confounds for 21 volumes; is it another run's"):
        read_confounds_table(path, ["motion"], n_volumes=21)


@pytest.mark.parametrize("cell", ["n/a", "x", "1,5", "inf"])
def test_a_cell_that_is_no_number_is_named_with_its_line(cell: str, tmp_path: Path) -> None:
    (tmp_path / "motion.tsv").write_text(f"a\tb\n1\t2\n3\t{cell}\n")
    with pytest.raises(DataError, match=rf"motion\.tsv, line 3: b '{cell}' is not a finite number"):
        read_confounds_table(tmp_path / "motion.tsv")


def test_a_column_of_nothing_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "motion.tsv").write_text("a\tb\n1\tn/a\n3\tn/a\n")
    with pytest.raises(DataError, match=r"line 2: b 'n/a' is not"):
        read_confounds_table(tmp_path / "motion.tsv")


def test_what_is_not_there_is_refused(path: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"no confound 'motoin'\. Did you mean 'motion'"):
        read_confounds_table(path, ["motoin"])
    own = tmp_path / "own.tsv"
    own.write_text("a\n1\n2\n")
    with pytest.raises(RecipeError, match=r"own\.tsv: 'motion' stands for columns of fMRIPrep's"):
        read_confounds_table(own, ["motion"])
    lacking = write_confounds(tmp_path / "x" / NAME, TABLE[["csf", "white_matter"]])
    with pytest.raises(RecipeError, match="has not what 'motion' needs"):
        read_confounds_table(lacking, ["motion"])
    path.with_suffix(".json").unlink()
    with pytest.raises(RecipeError, match="has not what 'acompcor' needs"):
        read_confounds_table(path, ["acompcor"])
    path.write_text("/annex/objects/MD5E-s1--2.tsv")
    with pytest.raises(DataError, match="not downloaded"):
        read_confounds_table(path)
