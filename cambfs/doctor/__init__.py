"""The checks of `cambfs doctor`: this machine, the settings, the network, the places of files, mounts, one result.

`report` defines and runs checks. Each other module has the checks of one subject and does not know the others. Nothing
here imports click, requests or fusepy. No check changes anything, except that the cache's own directories are opened as
a mount opens them.
"""
