"""The room of the FUSE binding: the adapter to fusepy, errnos, signals. Only here is `fuse` imported."""
