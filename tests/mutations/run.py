#!/usr/bin/env python3
"""Breaks each xDS rule in a copy of the source and demands that a test notices.

  tests/mutations/run.py             all mutations of the machines (rules.toml), some seconds each
  tests/mutations/run.py --shell     also those that only tests over real connections can notice: builds everything each time
  tests/mutations/run.py 5 12        only those of these rules

Fails when a mutation survives, when its text is not there exactly once, and when a rule has none.
"""

import os
import pathlib
import re
import shutil
import subprocess
import sys
import time
import tomllib

RULES = 22
ROOT = pathlib.Path(__file__).resolve().parents[2]
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")).resolve()
COPY = TARGET / "mutations"
# Every test of the library but the long proptests; of the simulation as much as takes a second.
MACHINES = ["--no-default-features", "--lib", "--", "ads::", "snapshot::", "--skip", "model::"]
SHELL = ["--test", "it", "--", "ads::", "--skip", "ads_envoy::"]


def copy_source():
    """A copy at a place that stays, so that only what was mutated is compiled again."""
    listed = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, check=True, capture_output=True, text=True)
    wanted = {name for name in listed.stdout.splitlines() if (ROOT / name).is_file()}
    for name in wanted:
        source, to = ROOT / name, COPY / name
        if not to.exists() or to.read_bytes() != source.read_bytes():
            to.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, to)
    for old in [path for path in COPY.rglob("*") if path.is_file()]:
        if str(old.relative_to(COPY)) not in wanted:
            old.unlink()


def mutated(mutation):
    text = (ROOT / mutation["file"]).read_text()
    for find, replace in mutation["edits"]:
        if text.count(find) != 1:
            sys.exit(f"rule {mutation['rule']}, {mutation['what']}: {text.count(find)} places in {mutation['file']} hold\n{find}")
        text = text.replace(find, replace)
    return text


def cargo(arguments):
    env = dict(os.environ, CARGO_TARGET_DIR=str(TARGET), CAUSEWAY_SIM_SEEDS="150", RUST_BACKTRACE="0")
    run = subprocess.run(["cargo", "test", "--locked", *arguments], cwd=COPY, env=env, capture_output=True, text=True)
    return run.returncode, run.stdout, run.stderr


def failing(mutation):
    """The tests that fail; the source is as it was afterwards."""
    path = COPY / mutation["file"]
    original = path.read_text()
    path.write_text(mutated(mutation))
    try:
        code, out, err = cargo(SHELL if mutation.get("tests") == "shell" else MACHINES)
    finally:
        path.write_text(original)
    if "could not compile" in err:
        sys.exit(f"rule {mutation['rule']}, {mutation['what']}: does not compile\n{err}")
    names = sorted(set(re.findall(r"^test (\S+) \.\.\. FAILED", out, re.MULTILINE)))
    if code != 0 and not names:
        sys.exit(f"rule {mutation['rule']}, {mutation['what']}: neither passed nor failed\n{out[-2000:]}\n{err[-2000:]}")
    return names


def main():
    arguments = sys.argv[1:]
    shell = "--shell" in arguments
    rules = {int(argument) for argument in arguments if argument != "--shell"}
    table = tomllib.loads((pathlib.Path(__file__).parent / "rules.toml").read_text())["mutation"]
    lacking = set(range(1, RULES + 1)) - {mutation["rule"] for mutation in table}
    if lacking:
        sys.exit(f"no mutation for the rules {sorted(lacking)}")
    for mutation in table:
        mutated(mutation)
    chosen = [m for m in table if (not rules or m["rule"] in rules) and (shell or m.get("tests") != "shell")]

    copy_source()
    code, out, err = cargo(MACHINES)
    if code != 0:
        sys.exit(f"the tests fail without any mutation\n{out[-4000:]}\n{err[-4000:]}")
    survivors = 0
    for mutation in chosen:
        started = time.monotonic()
        names = failing(mutation)
        survivors += not names
        print(f"rule {mutation['rule']:2}  {mutation['what']}  ({time.monotonic() - started:.0f} s)", flush=True)
        more = f", and {len(names) - 4} more" if len(names) > 4 else ""
        print("         " + (", ".join(names[:4]) + more if names else "SURVIVES: no test fails"), flush=True)
    if survivors:
        sys.exit(f"{survivors} of {len(chosen)} mutations survive")
    print(f"all {len(chosen)} mutations are noticed")


main()
