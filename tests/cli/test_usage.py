"""What the command takes, and how it answers before anything is read."""

import os
import subprocess
import sys
import time

import pytest

from mrn_prep import __version__
from mrn_prep.cli.config import resolve, to_toml
from mrn_prep.cli.main import main
from mrn_prep.cli.parser import build_parser, parse
from mrn_prep.errors import UnknownLevelError, UsageError

PLACES = ["in", "out", "participant"]


def resolved(*args):
    return resolve(parse([*PLACES, *args]))


@pytest.mark.parametrize(
    "flag", ["participant-label", "session-label", "bids-filter-file", "work-dir", "mem-mb"]
)
def test_underscores_are_as_good_as_dashes(flag):
    under = flag.replace("-", "_")
    assert resolved(f"--{under}", "7") == resolved(f"--{under}=7") == resolved(f"--{flag}", "7")


def test_options_have_the_names_of_other_apps():
    run = resolved("--session-id", "1", "--n_cpus", "2", "--notrack").run
    assert (run.session_label, run.nprocs) == (("1",), 2)
    assert parse([*PLACES, "--nipype-plugin-file", "x"])["use_plugin"] == "x"


@pytest.mark.parametrize(
    ("text", "mb"),
    [("8GB", 8192), ("4096", 4096), ("512M", 512), ("1.5 GiB", 1536), ("2t", 2 * 2**20)],
)
def test_memory_is_read_in_mb_or_with_its_unit(text, mb):
    assert resolved("--mem", text).run.mem_mb == resolved("--mem-mb", text).run.mem_mb == mb


def test_memory_in_gb_is_a_number():
    assert resolved("--mem-gb", "2.5").run.mem_mb == 2560


@pytest.mark.parametrize(
    "args",
    [
        ["--mem", "lots"], ["--mem", "0"], ["--mem-gb", "8GB"], ["--nprocs", "0"],
        ["--nprocs", "two"], ["--bogus"], ["--b1-smoothing-mm", "-1"],
        ["--b1-smoothing-mm", "nan"], ["--dwi-denoise", "magic"], ["--modalities", "pet"],
        ["--roi-min-fraction", "0"], ["-d", "rois="], ["-d", "a=x", "a=y"], ["-d", "raw=x"],
        ["--random-seed", "-1"], ["--participant", "01"], ["fourth"],
        ["--config-file", "/nowhere.toml"], ["--use-plugin", "/nowhere.yml"],
        ["-w", "in/work"],
    ],
)  # fmt: skip
def test_wrong_usage_is_64(args, capsys):
    assert main([*PLACES, *args]) == 64
    said = capsys.readouterr()
    assert said.out.startswith("mrn_prep: exit code 64, wrong usage")
    assert args[0].split("=")[0].lstrip("-").split("-")[0] in said.err.replace("_", "-")


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        ([], 64, "BIDS_DIR, OUT_DIR, LEVEL not given"),
        (["in", "out"], 64, "LEVEL not given"),
        (["in", "out", "session"], 17, "LEVEL is 'session'; wanted participant or group"),
        (["--participant-label", "01", "in", "out", "group"], 64, "write them first"),
        (["in", "in", "participant"], 64, "lies inside OUT_DIR"),
        (["out/in", "out", "participant"], 64, "lies inside OUT_DIR"),
        (["in", "in/sub-01", "participant"], 64, "lies among the raw data"),
        (["in", "out", "participant"], 66, "in: there is no such folder"),
        (["in", "nowhere", "group"], 66, "run the participant level first"),
    ],
)
def test_the_first_answer_is_a_sentence_and_a_code(
    args, code, words, capsys, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    assert main(args) == code
    said = capsys.readouterr()
    assert words in said.err
    assert said.out.splitlines()[-1].startswith(f"mrn_prep: exit code {code},")
    assert code == 66 or not list(tmp_path.iterdir())


def test_out_dir_below_derivatives_of_the_input_is_fine():
    assert resolve(parse(["in", "in/derivatives/mrn_prep", "participant"])).level == "participant"


def test_a_raw_data_set_is_no_output_folder(phantom, tmp_path, capsys):
    assert main([str(tmp_path), str(phantom), "participant"]) == 64
    assert "is a raw BIDS data set" in capsys.readouterr().err


def test_options_may_stand_anywhere():
    middle = resolve(parse(["in", "--nprocs", "2", "out", "-v", "participant", "-v"]))
    assert (middle.run.nprocs, middle.run.verbose, middle.level) == (2, 2, "participant")


def test_lists_may_be_given_in_pieces():
    run = resolved("--participant-label", "01", "02", "--participant-label", "03", "01").run
    assert run.participant_label == ("01", "02", "03")


def test_help_names_every_option_and_code(capsys):
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("usage: mrn_prep BIDS_DIR OUT_DIR {participant,group} [options]")
    for action in build_parser()._actions:
        assert action.help, action.option_strings
        assert all(option in text for option in action.option_strings)
    for code in (0, 16, 17, 18, 64, 65, 66, 70, 73, 74, 75):
        assert f" {code} " in text.replace("\n", " ")
    assert max(map(len, text.splitlines())) <= 100


HEAVY = ("numpy", "nibabel", "nipype", "pandas", "numba", "bids", "matplotlib")


def test_version_is_quick_and_light():
    code = (
        "import sys; from mrn_prep.cli.main import main; main(['--version']);"
        f"sys.exit(any(m in sys.modules for m in {HEAVY!r}))"
    )
    fastest = 9.0
    for _ in range(3):
        began = time.monotonic()
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        fastest = min(fastest, time.monotonic() - began)
        assert (done.returncode, done.stdout) == (0, f"mrn_prep {__version__}\n"), done.stderr
    assert fastest < 0.5


def test_help_imports_nothing_heavy():
    code = (
        "import sys; from mrn_prep.cli.parser import build_parser; build_parser().format_help();"
        f"sys.exit(any(m in sys.modules for m in {HEAVY!r}))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_package_can_be_run_as_a_module():
    done = subprocess.run(
        [sys.executable, "-m", "mrn_prep", "a", "b", "c"], capture_output=True, text=True
    )
    assert done.returncode == 17
    assert done.stdout.startswith("mrn_prep: exit code 17, unknown analysis level")


def test_a_reader_that_has_gone_stops_nothing(phantom, tmp_path):
    with subprocess.Popen(
        [sys.executable, "-m", "mrn_prep", str(phantom), str(tmp_path / "o"), "participant",
         "--dry-run"], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as run:  # fmt: skip
        run.stdout.close()
        complaint = run.stderr.read()
    assert (run.returncode, complaint) == (0, b"")


def test_a_terminal_without_utf8_is_served(phantom, tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "mrn_prep", str(phantom), str(tmp_path / "ö"), "participant",
         "--dry-run", "-w", "ü", "--participant-label", "ß"], capture_output=True,
        env=os.environ | {"PYTHONIOENCODING": "ascii"},
    )  # fmt: skip
    assert done.returncode == 18
    assert b"Traceback" not in done.stderr


# the configuration file

ARGS = [
    "--participant-label", "01", "--modalities", "t1", "-d", "rois=r", "x=y", "--nprocs", "3",
    "--mem", "4GB", "--b1-smoothing-mm", "5", "--no-t1-use-b1", "--dwi-motion", "rigid", "-w", "w",
    "--skip-bids-validation", "--random-seed", "7", "-vv",
]  # fmt: skip


def test_a_written_configuration_gives_the_same_call(tmp_path, monkeypatch):
    first = resolved(*ARGS)
    (tmp_path / "config.toml").write_text(to_toml(first))
    written = to_toml(first)
    monkeypatch.chdir(tmp_path)  # paths in it do not depend on where one stands
    again = resolve(parse(["--config-file", "config.toml"]))
    assert to_toml(again) == written
    assert again.options == first.options
    assert again.run.mem_mb == 4096


def test_flags_win_over_the_configuration(tmp_path):
    path = tmp_path / "config.toml"
    path.write_text(to_toml(resolved(*ARGS)))
    won = resolve(parse(["in2", "--config-file", str(path), "--nprocs", "1", "--t1-use-b1"]))
    assert (won.run.nprocs, won.options.t1.use_b1, won.options.b1.smoothing_mm) == (1, True, 5.0)
    assert (won.bids_dir.name, won.out_dir.name) == ("in2", "out")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[b1", "is not TOML"),
        ("[b1]\nsmoothing = 3", "[b1] has no option 'smoothing'; did you mean 'smoothing_mm'?"),
        ("[b1]\nsmoothing_mm = '3'", "wanted a number (mm)"),
        ("[b1]\nsmoothing_mm = 3000", "wanted 0 to 100 (mm)"),
        ("[t1]\nuse_b1 = 1", "wanted true or false"),
        ("[nope]\na = 1", "there is no section [nope]"),
        ("b1 = 3", "wanted a section [b1]"),
        ("run = 3", "wanted a section [run]"),
        ("[run]\nnprocs = 'two'", "wanted a whole number"),
        ("[run]\nnprocs = -2", "wanted 0 or more"),
        ("[run]\nmodalities = ['pet']", "has 'pet'"),
        ("[run]\nparticipant_label = '01'", "wanted a list of texts"),
        ("[mrn_prep]\nbids_dir = 3", "wanted a text"),
        ("[mrn_prep]\nbidsdir = 'x'", "has no option 'bidsdir'"),
    ],
)
def test_a_wrong_configuration_is_named(tmp_path, text, words):
    path = tmp_path / "wrong.toml"
    path.write_text(text)
    with pytest.raises(UsageError, match=r"\[|wanted|TOML|section") as caught:
        resolved("--config-file", str(path))
    assert words in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_configuration_that_is_no_text_is_named(tmp_path):
    path = tmp_path / "latin.toml"
    path.write_bytes(b"[run]\nwork_dir = '\xe4'")
    with pytest.raises(UsageError, match="is not TOML"):
        resolved("--config-file", str(path))


def test_a_level_in_the_configuration_is_checked(tmp_path):
    path = tmp_path / "c.toml"
    path.write_text("[mrn_prep]\nbids_dir='a'\nout_dir='b'\nanalysis_level='c'")
    with pytest.raises(UnknownLevelError):
        resolve(parse(["--config-file", str(path)]))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("plugin: [", "is not YAML"),
        ("- a", "names no plugin"),
        ("plugin_args: {}", "names no plugin"),
        ("plugin: SLURM\nplugin_args: 3", "must be a mapping"),
    ],
)
def test_a_wrong_plugin_file_is_named_before_anything_starts(tmp_path, text, words, capsys):
    path = tmp_path / "plugin.yml"
    path.write_text(text)
    out = tmp_path / "out"
    assert main(["in", str(out), "participant", "--use-plugin", str(path)]) == 64
    assert words in capsys.readouterr().err
    assert not out.exists()
