"""`brainalign list` and `brainalign fetch`: what they say before, what they bring, and how they refuse."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from brainalign_cli.main import main

from brainalign import manifests
from brainalign.manifests import list_manifests, read_manifest


def leave(*arguments: str) -> int:
    """Run the command; the code it leaves with."""
    with pytest.raises(SystemExit) as exit_:
        main(arguments)
    return exit_.value.code


@pytest.fixture
def run(capsys: pytest.CaptureFixture) -> Callable[..., str]:
    """Run the command, which must end well; what it printed."""

    def run(*arguments: str) -> str:
        assert leave(*arguments) == 0
        return capsys.readouterr().out

    return run


@pytest.fixture
def refuse(capsys: pytest.CaptureFixture) -> Callable[..., str]:
    """Run the command, which must refuse in at most three lines; what it said."""

    def refuse(*arguments: str) -> str:
        assert leave(*arguments) == 2
        said = capsys.readouterr().err
        assert 1 <= len(said.strip().splitlines()) <= 3
        assert "Traceback" not in said
        return said

    return refuse


@pytest.fixture
def mirror(shared: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BRAINALIGN_MIRROR", str(shared / "datasets"))
    return shared / "datasets" / "alice"


@pytest.fixture
def manifest_of_mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Add a dataset "mine" to those that are known, of the loader of "alice" and with the rest as given."""

    def write(rest: str) -> None:
        head = (
            "name: mine\nloader: alice\ntitle: Mine\nmodality: [meg]\ncitation: I\nlicence: CC0\ndescription: Mine.\n"
        )
        (tmp_path / "mine.yaml").write_text(head + rest)
        monkeypatch.setattr(manifests, "manifest_folder", lambda: tmp_path)
        monkeypatch.setattr(manifests, "read_manifest", manifests.read_manifest.__wrapped__)

    return write


# list


def test_all_datasets_are_listed_by_rank_and_then_by_name(run: Callable[..., str]) -> None:
    listed = [line.split()[0] for line in run("list").splitlines() if not line.startswith(" ")]
    assert listed == sorted(list_manifests(), key=lambda name: (read_manifest(name).rank, name))


def test_no_line_of_a_list_or_page_is_wider_than_a_hundred_signs(run: Callable[..., str]) -> None:
    for line in (run("list") + run("list", "--verbose")).splitlines():
        assert len(line) <= 100 or len(line.split()) <= 2, line


@pytest.mark.parametrize("name", ["alice", "arrays", "simulated"])
def test_a_page_says_all_that_the_manifest_does(name: str, run: Callable[..., str]) -> None:
    manifest = read_manifest(name)
    page = " ".join(run("list", name).split())
    assert page.startswith(f"{name}: {manifest.title}")
    for text in (manifest.description, manifest.citation, manifest.licence, *manifest.modality, *manifest.languages):
        assert " ".join(text.split()) in page


def test_the_pages_of_all_datasets_are_one_after_the_other(run: Callable[..., str]) -> None:
    pages = run("list", "--verbose")
    for name in list_manifests():
        assert run("list", name).strip() in pages


def test_a_page_counts_files_and_names_settings_with_their_defaults(run: Callable[..., str]) -> None:
    page = run("list", "alice")
    assert "117 files, 3.3 MB, each with a checksum" in page
    assert "brainalign fetch alice" in page
    assert "radius_mm = 6 (Literal[6, 10])" in page
    assert "regions = None (tuple[str, ...] | None)" in page
    assert "must be given" in run("list", "arrays")


def test_a_page_says_what_was_not_verified_and_how_to_get_what_cannot_be_fetched(
    manifest_of_mine: Callable[[str], None], run: Callable[..., str]
) -> None:
    manifest_of_mine(
        "verified: false\nunverified: the second session\ninstructions: Sign it.\nn_subjects: 3\n"
        "hours_per_subject: 1.5\nlanguages: [nl, en]\nhomepage: https://example.org\n"
    )
    page = run("list", "mine")
    assert re.search(r"verified +not yet with the archive's own list; not verified: the second session", page)
    assert re.search(r"to have it +Sign it\.", page)
    assert re.search(r"subjects +3, 1\.5 hours each", page)
    assert re.search(r"languages +nl, en", page)
    assert re.search(r"homepage +https://example\.org", page)


def test_a_page_of_an_unknown_dataset_is_refused(refuse: Callable[..., str]) -> None:
    assert "Did you mean 'alice'" in refuse("list", "alise")


# fetch


def test_a_dry_run_says_what_is_to_come_and_fetches_nothing(
    run: Callable[..., str], mirror: Path, own_cache: Path
) -> None:
    said = run("fetch", "alice", "--subjects", "s18,s22", "--kinds", "responses", "--dry-run")
    assert said.startswith("alice: Alice in Wonderland")
    assert re.search(r"responses +6 files, 149\.\d kB; here: none", said)
    assert "words" not in said
    assert re.search(rf"to fetch +6 files, 149\.\d kB, into {re.escape(str(own_cache / 'datasets' / 'alice'))}", said)
    assert "alice_data_shared/6mm/s22-timecourses.txt" in said
    assert not list(own_cache.iterdir())


def test_many_files_are_named_only_when_that_is_asked_for(run: Callable[..., str]) -> None:
    assert "--verbose names the 89 files." in run("fetch", "alice", "--dry-run")
    named = run("fetch", "alice", "--dry-run", "--verbose")
    assert named.count("-timecourses.txt") == 28


def test_what_is_here_and_what_was_begun_is_not_counted_as_to_come(
    run: Callable[..., str], mirror: Path, own_cache: Path
) -> None:
    run("fetch", "alice", "--subjects", "s18", "--kinds", "responses")
    begun = own_cache / "datasets/alice/alice_data_shared/6mm/s22-timecourses.txt.part"
    begun.write_bytes(b"0" * 30_000)
    said = run("fetch", "alice", "--subjects", "s18,s22", "--kinds", "responses", "--dry-run")
    assert re.search(r"responses +6 files, 149\.\d kB; here: 3 files, 74\.8 kB", said)
    [left_kb] = re.findall(r"to fetch +3 files, ([\d.]+) kB", said)
    assert float(left_kb) == pytest.approx(74.8 - 30, abs=0.3)


def test_a_part_of_a_dataset_is_fetched_and_verified(run: Callable[..., str], mirror: Path, own_cache: Path) -> None:
    said = run("fetch", "alice", "--subjects", "s18,s22", "--set", "radius_mm=10")
    assert "the files of 2 subjects are here and verified." in said
    assert (own_cache / "datasets/alice/alice_data_shared/10mm/s18-timecourses.txt").is_file()
    assert not (own_cache / "datasets/alice/alice_data_shared/6mm").exists()
    again = run("fetch", "alice", "--subjects", "s18,s22", "--set", "radius_mm=10")
    assert "to fetch    nothing" in again
    assert "are here and verified." in again


def test_a_copy_of_ones_own_is_verified(run: Callable[..., str], mirror: Path, capsys: pytest.CaptureFixture) -> None:
    assert "to fetch    nothing" in run("fetch", "alice", "--root", str(mirror))
    assert leave("fetch", "alice", "--root", str(mirror / "none")) == 2
    assert "there is no such folder" in capsys.readouterr().err


@pytest.mark.filterwarnings("default")
def test_damage_is_found_anew_when_that_is_asked_for(
    run: Callable[..., str],
    mirror: Path,
    own_cache: Path,
    capsys: pytest.CaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # As where a disk loses bits: nothing that the file system tells has changed.
    monkeypatch.setattr("brainalign.archives.verified._state", lambda path: {"size": path.stat().st_size})
    arguments = ("fetch", "alice", "--subjects", "s18", "--kinds", "responses")
    run(*arguments)
    place = own_cache / "datasets/alice/alice_data_shared/6mm/s18-timecourses.txt"
    content = place.read_bytes()
    with place.open("r+b") as stream:
        stream.write(b"9")
    run(*arguments)
    assert place.read_bytes() != content
    assert leave(*arguments, "--anew") == 0
    assert "is damaged" in capsys.readouterr().err
    assert place.read_bytes() == content


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--subjects", "s99"), "no subject 's99'"),
        (("--stimuli", "alice-chapter-2"), "no stimulus 'alice-chapter-2'. Did you mean 'alice-chapter-1'"),
        (("--sessions", "2"), "no session '2'"),
        (("--kinds", "respones"), "Did you mean 'responses'"),
        (("--set", "radius_m=10"), "Did you mean 'radius_mm'"),
        (("--set", "radius_mm"), "write key=value"),
        (("--set", "radius_mm=7"), "radius_mm"),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value),
)
def test_what_there_is_not_is_refused_with_the_nearest_there_is(
    arguments: tuple[str, ...], said: str, refuse: Callable[..., str], own_cache: Path
) -> None:
    assert said in refuse("fetch", "alice", *arguments)
    assert not (own_cache / "datasets").exists()


def test_data_that_users_must_get_themselves_say_how(
    manifest_of_mine: Callable[[str], None], capsys: pytest.CaptureFixture
) -> None:
    manifest_of_mine("instructions: >-\n  Sign the agreement\n  at the archive.\n")
    assert leave("fetch", "mine") == 2
    said = capsys.readouterr()
    assert "Sign the agreement at the archive." in said.out
    assert "mine cannot be fetched" in said.err
    assert "--root FOLDER" in said.err


def test_a_dataset_of_no_archive_has_nothing_to_fetch(run: Callable[..., str], refuse: Callable[..., str]) -> None:
    assert "are here." in run("fetch", "simulated")
    assert "nothing is to be fetched" in run("fetch", "simulated", "--dry-run")
    assert "--kinds chooses nothing of it" in refuse("fetch", "simulated", "--kinds", "words")


def test_an_archive_that_tells_its_files_is_asked_anew(
    manifest_of_mine: Callable[[str], None], monkeypatch: pytest.MonkeyPatch, refuse: Callable[..., str]
) -> None:
    asked: list[bool] = []
    monkeypatch.setattr(
        "brainalign.archives.listings.listed_files", lambda name, listing, anew=False: asked.append(anew)
    )
    manifest_of_mine("listing: {archive: osf, places: [abcde]}\n")
    refuse("fetch", "mine", "--anew", "--set", "radius_m=1")
    assert asked == [True]
