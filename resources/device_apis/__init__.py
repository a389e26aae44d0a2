"""What systems with readings of devices are asked, and what their answers hold: a module a system, without IO."""
