"""`cambfs completion`: prints the script with which a shell completes commands; click makes it. No threads."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

_SHELLS = ("bash", "zsh", "fish")
# How the script calls the command: click prints completions when this variable is set.
_VARIABLE = "_CAMBFS_COMPLETE"


@click.command()
@click.argument("shell", type=click.Choice(_SHELLS))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the script with which a shell completes cambfs commands.

    \b
    bash: put this line in ~/.bashrc:  eval "$(cambfs completion bash)"
    zsh:  put this line in ~/.zshrc:   eval "$(cambfs completion zsh)"
    fish: cambfs completion fish >~/.config/fish/completions/cambfs.fish
    """
    kind = get_completion_class(shell)
    assert kind is not None  # click supports these three
    click.echo(kind(ctx.find_root().command, {}, "cambfs", _VARIABLE).source())
