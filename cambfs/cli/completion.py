"""`cambfs completion`: the script with which a shell completes what is typed; click makes it. No threads."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

_SHELLS = ("bash", "zsh", "fish")
# Where the script finds the command: click answers when this variable is set.
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
    assert kind is not None  # click has these three
    click.echo(kind(ctx.find_root().command, {}, "cambfs", _VARIABLE).source())
