import CSystem
import KnockBase
import KnockProtocol

/// The log of this process: one line for each message, `PROGRAM: ...` on the standard error unless it is
/// told otherwise. No call ever waits for a reader that has stalled: the line is dropped instead.
///
/// The name of the method is the severity.
let log = Log()

/// See `log`. What it has been told is in `logSettings`, so that a message can be written from anywhere.
struct Log: Sendable {
  /// Something could not be done.
  @inline(__always) func error(_ message: @autoclosure () -> Message) {
    _ = message()
    writeLine(.error)
  }

  /// Something is wrong, or soon will be.
  @inline(__always) func warning(_ message: @autoclosure () -> Message) {
    _ = message()
    writeLine(.warning)
  }

  /// What the user asked for, with a signal for instance. Also written with `-q`.
  @inline(__always) func answer(_ message: @autoclosure () -> Message) {
    _ = message()
    writeLine(.info)
  }

  /// What happens in normal operation. Not written with `-q`.
  @inline(__always) func info(_ message: @autoclosure () -> Message) {
    if shows(.normal) { answer(message()) }
  }

  /// Written with `-v`.
  @inline(__always) func debug(_ message: @autoclosure () -> Message) {
    if shows(.verbose) {
      _ = message()
      writeLine(.debug)
    }
  }

  /// Written with `-vv`.
  @inline(__always) func trace(_ message: @autoclosure () -> Message) {
    if shows(.debug) {
      _ = message()
      writeLine(.debug)
    }
  }

  /// A line as it is, for a person at a terminal: the usage of a command.
  @inline(__always) func plain(_ message: @autoclosure () -> Message) {
    _ = message()
    writePlainLine()
  }

  /// Whether lines of this verbosity are written.
  func shows(_ verbosity: Verbosity) -> Bool { unsafe logSettings.verbosity >= verbosity }

  /// Whether arguments may be quoted. In a command line with a mistake in it nobody can tell which argument
  /// is the key, so they may only if the key is in a file.
  var showsArguments: Bool {
    get { unsafe logSettings.showsArguments }
    nonmutating set { unsafe logSettings.showsArguments = newValue }
  }

  var verbosity: Verbosity {
    get { unsafe logSettings.verbosity }
    nonmutating set { unsafe logSettings.verbosity = newValue }
  }

  /// Begins the log of a program: `pyknock server`, for one.
  func begin(as program: StaticString) {
    unsafe logSettings.program = program
    if Environment.writesToJournal { unsafe logSettings.reader = .journal }
  }

  /// Sends lines to the system's log from here on. Source: syslog(3).
  func useSystemLog() throws(SystemError) {
    try SystemError.check(unsafe csys_log_to_socket(("/dev/log" as StaticString).cString))
    unsafe logSettings.reader = .syslog
    unsafe logSettings.process = CurrentProcess.number
  }

  /// Writes each line as a JSON object from here on.
  func useJSON() {
    unsafe logSettings.isJSON = true
    // The first call of gmtime_r(3) in glibc may read a file, which the receiver must not.
    var text = TextBuffer<1024>()
    text.append(utc: 0)
  }

  @inline(never)
  private func writeLine(_ severity: Severity) {
    let whole = unsafe messageSubject.line(messageText, severity, logSettings)
    write(whole)
  }

  @inline(never)
  private func writePlainLine() {
    var whole = TextBuffer<1024>()
    unsafe messageText.withBytes { whole.append($0) }
    whole.endLine()
    write(whole)
  }

  /// Writes a whole line, and begins the next message.
  private func write(_ whole: borrowing TextBuffer<1024>) {
    Message.removeAll()
    whole.withBytes { bytes in
      unsafe bytes.withUnsafeBytes { unsafe csys_write_log($0.baseAddress, $0.count) }
    }
  }
}
