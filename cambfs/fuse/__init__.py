"""The FUSE binding: the adapter to fusepy, errnos, signals. The only room that imports `fuse`."""
