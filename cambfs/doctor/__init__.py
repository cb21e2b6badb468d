"""The checks of `cambfs doctor`: this machine, the settings, the network, the places of files, mounts, one result.

`report` says what a check is, and runs them one after the other. Each other module has the checks of one subject and
does not know of the others. Nothing here imports click, requests or fusepy, and no check changes anything but that the
cache's own directories are opened as a mount opens them.
"""
