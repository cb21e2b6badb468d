"""The runs that a user declares: lists like `1-100,205`, and the runs file with its names and folders."""

from cambfs.run_list.declared import DeclaredRuns, Names
from cambfs.run_list.items import expand, parse_runs

__all__ = ["DeclaredRuns", "Names", "expand", "parse_runs"]
