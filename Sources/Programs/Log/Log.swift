import CSystem
import KnockBase
import KnockProtocol

/// The log of this process: one line for each message, `PROGRAM: ...` on the standard error unless it is
/// told otherwise. No call ever waits for a reader that has stalled. What the server writes meanwhile waits in a
/// queue, and what finds no room there is dropped.
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

  /// A line as it is, for a person at a terminal: the usage of a command. The journal does not get it.
  @inline(__always) func plain(_ message: @autoclosure () -> Message) {
    guard unsafe logSettings.reader == .terminal else { return }
    _ = message()
    writePlainLine()
  }

  /// Prints a line on the standard output.
  @inline(__always) func print(_ message: @autoclosure () -> Message) throws(SystemError) {
    _ = message()
    try printLine()
  }

  /// Whether lines of this verbosity are written.
  func shows(_ verbosity: Verbosity) -> Bool { unsafe logSettings.verbosity >= verbosity }

  /// Whether arguments may be quoted: only if the key is in a file. In a wrong command line, any argument may be the
  /// key.
  var showsArguments: Bool {
    get { unsafe logSettings.showsArguments }
    nonmutating set { unsafe logSettings.showsArguments = newValue }
  }

  var verbosity: Verbosity {
    get { unsafe logSettings.verbosity }
    nonmutating set { unsafe logSettings.verbosity = newValue }
  }

  /// Begins the log of a program: `pyknock server`, for one.
  @inline(never)
  func begin(as program: Literal) {
    unsafe logSettings.program = program
    if Environment.writesToJournal { unsafe logSettings.reader = .journal }
  }

  /// Opens the queue of the server's two processes. To be called once, before the fork.
  func openQueue() throws(SystemError) { try SystemError.check(csys_open_log_queue()) }

  /// Sends lines to the system's log from here on. Source: syslog(3).
  func useSystemLog() {
    let name: Literal = "/dev/log"
    let result = unsafe csys_log_to_system(name.cString)
    if result < 0 {
      warning("warning: --syslog: \(name): \(SystemError(number: -result)); trying again")
      unsafe csys_await_system_log(name.cString)
    }
    unsafe logSettings.reader = .syslog
    unsafe logSettings.process = CurrentProcess.number
  }

  /// From now on this process only puts lines into the queue. Returns the descriptor for that.
  func becomeQueueOnly() -> Int32 {
    csys_only_queue_log()
    return 2
  }

  /// For poll(2): ready when `flush` has something to do.
  var descriptor: Int32 { csys_log_descriptor() }

  /// When to call `flush` next, in monotonic microseconds.
  var nextDeadline: Int64 { csys_log_deadline() }

  /// Writes lines that wait in the queue.
  func flush() {
    let dropped = csys_flush_log()
    if dropped > 0 { warning("log lines dropped: \(dropped)") }
  }

  /// Writes what waits in the queue, before the program ends.
  func end() {
    csys_end_log()
    flush()
  }

  /// Writes each line as a JSON object from here on.
  @inline(never)
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
  private func printLine() throws(SystemError) {
    unsafe messageText.endLine()
    defer { Message.removeAll() }
    try unsafe messageText.withBytes { bytes throws(SystemError) in
      try Descriptor.write(1, bytes)
    }
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
    flush()
  }
}
