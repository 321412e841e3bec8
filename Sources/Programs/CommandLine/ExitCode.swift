/// How a program ends. Source of 3 to 5 of the client: the Python original.
struct ExitCode: Equatable {
  private(set) var rawValue: Int32

  /// Of several, the greatest counts.
  mutating func include(_ other: ExitCode) { rawValue = max(rawValue, other.rawValue) }

  static var success: ExitCode { ExitCode(rawValue: 0) }
  static var failure: ExitCode { ExitCode(rawValue: 1) }
  static var misuse: ExitCode { ExitCode(rawValue: 2) }
  static var cannotResolve: ExitCode { ExitCode(rawValue: 3) }
  static var badSourceAddress: ExitCode { ExitCode(rawValue: 4) }
  static var badSignedAddress: ExitCode { ExitCode(rawValue: 5) }
  static var connectionBroke: ExitCode { ExitCode(rawValue: 6) }

  // What the server of `pyknock client` has answered.
  static var refused: ExitCode { ExitCode(rawValue: 7) }
  static var notDone: ExitCode { ExitCode(rawValue: 8) }
  static var noAnswer: ExitCode { ExitCode(rawValue: 9) }

  // Of `pyknock status`. Source: the exit codes of init scripts for `status` (LSB 5.0, 22.2).
  static var serverStopped: ExitCode { ExitCode(rawValue: 3) }
  static var serverUnknown: ExitCode { ExitCode(rawValue: 4) }
}
