import CSystem

/// This process.
enum CurrentProcess {
  /// The process ID.
  static var number: Int32 { csys_process_id() }

  /// Replaces standard input by /dev/null, and standard output too if it was closed.
  static func detachStandardStreams() throws(SystemError) {
    try SystemError.check(csys_detach_standard_streams())
  }
}
