"""The DICOM server: `wire/` speaks the standard without I/O, `scp/` and `scu/` put it on sockets."""
