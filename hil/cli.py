"""`commonwatt-hil`: run and sweep scenarios, serve simulated devices, measure, and install a broker.

Results go to stdout (`--json`: exactly one JSON document), progress and logs to stderr. Exit status: 0 done and every checker passed,
1 a checker was violated or a target missed, 2 the command or the scenario is wrong.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from pathlib import Path

from hil.errors import HilError
from hil.scratch import leaving_in_order
from protocols.arguments import add_command, magnitude, output_folder, port, positive, whole

COMPARED = "none,doe,dfe,p2p,hierarchical"
SWEEP_DEFAULT = "1:21"
SIMULATIONS = ("election", "aggregation")


def main(argv: list[str] | None = None) -> int:
    """Entry point of the console script."""
    # Matrices here are small: more threads for linear algebra only wait for each other. Must precede the first import of numpy.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    arguments = sys.argv[1:] if argv is None else argv
    if arguments[:1] == ["devices"]:
        from hil.devices.cli import main as devices_main

        return devices_main(arguments[1:])
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=_level(options.verbose), format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    try:
        with leaving_in_order():
            return int(options.command(options))
    except HilError as error:
        print(f"commonwatt-hil: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("commonwatt-hil: interrupted", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="commonwatt-hil", description="The bench: simulated devices, physics, faults, report.")
    parser.add_argument("-v", "--verbose", action="count", default=0, help="more logging on stderr (twice: still more)")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    run = add_command(commands, "run", "run one scenario, with and without envelopes, and leave a report")
    _scenario_arguments(run)
    run.add_argument("--mode", choices=("sim", "lockstep", "realtime"), default="lockstep", help="whose time it is (default lockstep)")
    run.add_argument("--seed", type=whole(least=0), metavar="N", help="seed of the faults (default that of the scenario)")
    run.add_argument("--out", type=output_folder, metavar="DIR", help="output folder (default out/SCENARIO)")
    run.add_argument("--json", action="store_true", help="print the results as one JSON document")
    run.add_argument("--no-faults", action="store_true", help="leave the shipped faults out")
    run.add_argument(
        "--serve", type=port, nargs="?", const=8080, metavar="PORT", help="serve the page of the run with envelopes; default port: 8080"
    )
    run.add_argument("--mosquitto", type=Path, metavar="PATH", help="the broker's program, where it is not on PATH")
    run.set_defaults(command=_run)

    compare = add_command(commands, "compare", "the same day under several mechanisms, in one table")
    _scenario_arguments(compare)
    compare.add_argument("--mechanisms", default=COMPARED, metavar="A,B", help=f"which (default {COMPARED})")
    compare.add_argument("--mode", choices=("sim", "lockstep"), default="sim", help="whose time it is (default sim)")
    compare.add_argument("--seed", type=whole(least=0), metavar="N", help="seed of the faults (default that of the scenario)")
    compare.add_argument("--faults", action="store_true", help="with the scenario's faults")
    compare.add_argument("--out", type=output_folder, metavar="DIR", help="output folder (default out/SCENARIO-compared)")
    compare.add_argument("--json", action="store_true", help="print the table as one JSON document")
    compare.add_argument("--mosquitto", type=Path, metavar="PATH", help="the broker's program, where it is not on PATH")
    compare.set_defaults(command=_compare)

    sweep = add_command(commands, "sweep", "run one scenario, or election or aggregation, with many seeds of faults")
    _scenario_arguments(sweep)
    sweep.add_argument("--seeds", default=SWEEP_DEFAULT, metavar="A:B", help=f"from A up to, not including, B (default {SWEEP_DEFAULT})")
    sweep.add_argument("--jobs", type=whole(least=1), metavar="N", help="processes (default one for each core)")
    sweep.add_argument("--json", action="store_true", help="print the table as one JSON document")
    sweep.set_defaults(command=_sweep)

    mutants = add_command(commands, "mutants", "plant bugs in elections and rounds, and say which seed of the simulation catches each")
    mutants.add_argument("--seeds", type=whole(least=1), default=400, metavar="N", help="seeds to try for each bug (default 400)")
    mutants.add_argument("--only", action="append", metavar="NAME", help="only bugs whose name contains this; may be repeated")
    mutants.add_argument("--jobs", type=whole(least=1), metavar="N", help="processes (default one for each core)")
    mutants.add_argument("--json", action="store_true", help="print the catches as one JSON document")
    mutants.set_defaults(command=_mutants)

    commands.add_parser("devices", help="serve simulated devices alone, so that any controller can be tried against them", add_help=False)

    bench = add_command(commands, "bench", "measure what the README promises")
    bench.add_argument("--list", action="store_true", help="print which rows there are and how long they take, and measure nothing")
    bench.add_argument("--json", action="store_true", help="print the rows as one JSON document")
    bench.add_argument("--only", action="append", metavar="ROW", help="only rows whose name contains this; may be repeated")
    bench.add_argument("--mosquitto", type=Path, metavar="PATH", help="the broker's program, where it is not on PATH")
    bench.add_argument("--emhass-python", type=Path, metavar="PATH", help="an interpreter whose environment has emhass, to compare with")
    bench.set_defaults(command=_bench)

    study = add_command(commands, "study", "run a paper's own case and print its table beside ours")
    study.add_argument("name", metavar="NAME", help="community, dfe69, disco33, hierarchical594 or p2pdnr")
    study.add_argument("--data", type=Path, metavar="DIR", help="folder of the public data sets (default ../shared/data)")
    study.add_argument("--seed", type=whole(least=0), metavar="N", default=1, help="seed of whatever is random (default 1)")
    study.add_argument("--live", action="store_true", help="hold its mechanism (also doe) in the bench: a street, real MQTT and Modbus")
    study.add_argument("--hours", type=positive, default=24.0, metavar="H", help="with --live: only the first H hours of the day")
    study.add_argument("--mosquitto", type=Path, metavar="PATH", help="with --live: the broker's program, where it is not on PATH")
    study.add_argument("--out", type=output_folder, metavar="DIR", help="leave plots and results.json here")
    study.add_argument("--json", action="store_true", help="print the results as one JSON document")
    study.set_defaults(command=_study)

    broker = add_command(commands, "broker", "find or install the Mosquitto broker")
    broker.add_argument("--install", action="store_true", help="install it where none is found")
    broker.add_argument("--mosquitto", type=Path, metavar="PATH", help="the broker's program, where it is not on PATH")
    broker.set_defaults(command=_broker)
    return parser


def _scenario_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("scenario", metavar="SCENARIO", help="name of a shipped scenario, or path of a TOML file")
    parser.add_argument("--data", type=Path, metavar="DIR", help="folder of the public data sets (default ../shared/data)")
    parser.add_argument("--hours", type=positive, metavar="H", help="only H hours of the day")
    parser.add_argument("--from", type=magnitude, metavar="H", dest="from_h", help="begin H hours into the day (default 0)")


def _run(options: argparse.Namespace) -> int:
    from hil.commands import run_command

    return run_command(options)


def _compare(options: argparse.Namespace) -> int:
    from hil.compare import compare_command

    return compare_command(options)


def _sweep(options: argparse.Namespace) -> int:
    if options.scenario in SIMULATIONS:
        from hil.simulation.command import sweep_simulation_command

        return sweep_simulation_command(options)
    from hil.commands import sweep_command

    return sweep_command(options)


def _mutants(options: argparse.Namespace) -> int:
    from hil.simulation.command import mutants_command

    return mutants_command(options)


def _bench(options: argparse.Namespace) -> int:
    from hil.bench import bench_command

    return bench_command(options)


def _study(options: argparse.Namespace) -> int:
    from hil.studies.command import study_command

    return study_command(options)


def _broker(options: argparse.Namespace) -> int:
    from hil.broker import find_mosquitto, install_mosquitto

    if options.install:
        install_mosquitto(lambda words: print(words, file=sys.stderr))
    found = find_mosquitto(options.mosquitto)
    if found is None:
        print("no mosquitto found; `commonwatt-hil broker --install` installs it", file=sys.stderr)
        return 1
    print(found)
    return 0


def _level(verbose: int) -> int:
    return (logging.ERROR, logging.INFO, logging.DEBUG)[min(verbose, 2)]
