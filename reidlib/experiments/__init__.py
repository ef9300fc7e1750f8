"""A paper's table: its plan, the runs that it takes, and the table beside the paper's.

`plans` names the rows of each table and figure, `results` keeps one file a run and says
which are current, `runner` makes what is missing, `report` reads the files and nothing
else, `verify` proves that the code still makes them, and `rerun` makes one of them
again on another machine. A number in the book therefore always has a file that says
which method, settings, data and hardware it came from.
"""

from reidlib.experiments.factorial import factorial_effects
from reidlib.experiments.measured import by_seed, load_results, paired_differences
from reidlib.experiments.plans import Plan, Row, plan, plans
from reidlib.experiments.report import Report, report
from reidlib.experiments.rerun import Rerun, rerun
from reidlib.experiments.results import NUM_SEEDS, Data, Job, results_dir
from reidlib.experiments.runner import (
    Outcome,
    make_result,
    reproduce,
    reproduce_all,
)
from reidlib.experiments.scoreboard import BoardLine, Scoreboard, scoreboard
from reidlib.experiments.verdicts import SIGNS, Verdict, verdicts
from reidlib.experiments.verify import Verification, verified, verify

__all__ = [
    "NUM_SEEDS",
    "SIGNS",
    "BoardLine",
    "Data",
    "Job",
    "Outcome",
    "Plan",
    "Report",
    "Rerun",
    "Row",
    "Scoreboard",
    "Verdict",
    "Verification",
    "by_seed",
    "factorial_effects",
    "load_results",
    "make_result",
    "paired_differences",
    "plan",
    "plans",
    "report",
    "reproduce",
    "reproduce_all",
    "rerun",
    "results_dir",
    "scoreboard",
    "verdicts",
    "verified",
    "verify",
]
