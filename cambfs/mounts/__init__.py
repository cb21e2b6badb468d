"""The mounts of the machine: which there are, where one can be made, and how one is unmounted."""
