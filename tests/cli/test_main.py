"""The frame of the command line: help, version, unknown words, errors and exit codes."""

import errno
import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import smerf as package
from smerf import errors
from smerf.cli.main import COMMANDS, describe_error, main
from smerf.pipeline.summary import format_bytes, format_table

ROOT = Path(__file__).parents[2]


def python(*words, **environment):
    return subprocess.run(
        [sys.executable, *words],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
    )


def test_the_program_runs_as_a_module_and_lists_every_command():
    result = python("-m", "smerf", "--help")
    assert result.returncode == 0 and result.stderr == ""
    for command, summary in COMMANDS.items():
        assert f"  {command} " in result.stdout and summary in result.stdout


def test_help_loads_nothing_heavy():
    code = (
        "import sys; from smerf.cli.main import main; main(['--help']); import smerf.cli.run;"
        "heavy = {'torch', 'numpy', 'scipy', 'PIL', 'rich', 'yaml', 'imageio'} & set(sys.modules);"
        "sys.exit(f'{heavy} loaded' if heavy else 0)"
    )
    result = python("-c", code)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example_of_itself(command, smerf):
    code, out, err = smerf(command, "--help")
    assert code == 0 and err == ""
    assert f"\n  smerf {command} " in out or out.count(f"  smerf {command}\n")
    assert f"usage: smerf {command}" in out and "--verbose" in out
    assert smerf("help", command)[1] == out


@pytest.mark.parametrize("words", [("doctor",), ("run", "data"), ("eval", "run"), ("synth", "a", "-o", "b")])
def test_an_unknown_flag_is_a_usage_error(words, smerf):
    code, out, err = smerf(*words, "--no-such-flag")
    assert code == 2 and out == "" and "no-such-flag" in err


@pytest.mark.parametrize("command", [name for name in COMMANDS if name != "doctor"])
def test_a_missing_argument_is_a_usage_error(command, smerf):
    code, out, err = smerf(command)
    assert code == 2 and out == "" and "Missing" in err


def test_version_and_no_words(smerf):
    assert smerf("--version") == (0, f"smerf {package.__version__}\n", "")
    assert smerf() == (2, "", smerf("--help")[1])


def test_an_unknown_command_names_the_nearest(smerf):
    assert smerf("bkae") == (2, "", "smerf: there is no command 'bkae'; did you mean 'bake'?\n")
    code, _, err = smerf("@@")
    assert code == 2 and "doctor" in err


def test_flags_may_be_spelt_with_underscores(smerf, data):
    assert smerf("serve", data, "--no_browser")[0] == smerf("serve", data, "--no-browser")[0]


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (errors.SmerfError("a\nb"), 1, "a b"),
        (errors.UsageError("x"), 2, "x"),
        (errors.MissingPartError("x"), 3, "x"),
        (errors.InvalidDataError("x"), 4, "x"),
        (errors.VerificationError("x"), 5, "x"),
        (KeyboardInterrupt(), 130, "same command"),
        (ModuleNotFoundError("no", name="pycolmap.x"), 3, "pip install pycolmap"),
        (OSError(28, "No space left on device", "runs/a"), 1, "runs/a: No space left on device"),
        (MemoryError(), 1, "--set max_side"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), 1, "out of memory"),
        (
            RuntimeError("unable to mmap 99 bytes from file <t>: Cannot allocate memory (12)"),
            1,
            "out of memory",
        ),
        (ImportError("a.so: failed to map segment from shared object"), 1, "out of memory"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), 1, "out of memory"),
        (RuntimeError("the tensor has 3 dimensions"), 1, "unexpected RuntimeError"),
        (ValueError("odd"), 1, "unexpected ValueError: odd"),
    ],
)
def test_errors_become_one_line_and_an_exit_code(error, code, words):
    message, number = describe_error(error)
    assert number == code and words in message and "\n" not in message


@pytest.mark.parametrize("command", ["run", "train", "prepare", "bake", "info"])
def test_advice_on_memory_names_options_that_the_command_has(command, capsys):
    message, _ = describe_error(MemoryError(), command)
    main([command, "--help"])
    options = capsys.readouterr().out
    assert message.startswith("out of memory: close other programs")
    for word in ("--preset", "--max-side", "--set"):
        assert word not in message or word in options


def test_a_device_that_is_not_there(smerf, data, monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    code, _, err = smerf("run", data, "--device", "cuda")
    assert code == 3 and "--device cuda" in err and "doctor" in err


def test_doctor_reports_each_part_and_its_fix(smerf, monkeypatch):
    code, out, _ = smerf("doctor", "--json")
    checks = {check["name"]: check for check in json.loads(out)}
    assert code == 0
    assert checks["python"]["state"] == checks["torch"]["state"] == checks["numpy"]["state"] == "ok"
    assert {"CUDA device", "g++", "nvcc", "libGL", "Chromium"} <= checks.keys()
    assert all(check["fix"] for check in checks.values() if check["state"] == "missing")


def test_doctor_fails_when_something_essential_is_missing(smerf, monkeypatch):
    import importlib.metadata as metadata

    real = metadata.version

    def version(name):
        if name == "safetensors":
            raise metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(metadata, "version", version)
    code, out, _ = smerf("doctor")
    assert code == 3
    lines = out.splitlines()
    index = next(i for i, line in enumerate(lines) if "safetensors" in line)
    assert lines[index].startswith("missing") and "pip install" in lines[index + 1]


def test_doctor_ends_with_a_verdict_and_keeps_details_for_verbose(smerf):
    code, short, _ = smerf("doctor")
    assert code == 0 and short.splitlines()[-1].startswith("Ready: ") and "kernel " not in short
    code, long, _ = smerf("doctor", "--verbose")
    assert code == 0 and "kernel " in long and long.splitlines()[-1] == short.splitlines()[-1]


def test_doctor_says_what_a_run_of_a_capture_would_take(smerf, data, monkeypatch):
    asked = []

    class Plan:
        def sentence(self):
            return "12 photos take 10 min"

    def plan(path, minutes=None):
        asked.append((path, minutes))
        return Plan()

    monkeypatch.setattr(importlib.import_module("smerf.pipeline.run"), "plan", plan)
    code, out, _ = smerf("doctor", data, "--minutes", "10")
    assert code == 0 and asked == [(data, 10.0)]
    assert out.splitlines()[-1] == f"smerf run {data}: 12 photos take 10 min"
    found = json.loads(smerf("doctor", data, "--json")[1])[-1]
    assert found["name"] == f"smerf run {data}" and found["found"] == "12 photos take 10 min"
    monkeypatch.undo()
    assert smerf("doctor", "nowhere")[0] == 2


def test_wrong_options_are_one_line_like_all_errors(smerf):
    code, out, err = smerf("run", "data", "--quite")
    assert (code, out) == (2, "") and err.count("\n") == 1
    assert err.startswith("smerf run: ") and "did you mean --quiet?" in err and "smerf run --help" in err


def test_a_closed_pipe_is_no_traceback():
    process = subprocess.Popen(
        [sys.executable, "-m", "smerf", "doctor"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT
    )
    process.stdout.close()
    assert b"Traceback" not in process.stderr.read()
    process.wait()


def test_tables_and_sizes():
    assert format_table(["stage", "PSNR"], [["teacher", "21.50"], ["baked", "9.00"]]).splitlines() == [
        "  stage     PSNR",
        "  teacher  21.50",
        "  baked     9.00",
    ]
    assert [format_bytes(n) for n in (812, 34_500_000, 2.5e9)] == ["812 B", "34.5 MB", "2.50 GB"]
