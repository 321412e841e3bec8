import KnockBase
import KnockProtocol
import KnockServer

/// How urgent a line is: a priority of the system's log. Source: syslog(3).
enum Severity: UInt8 {
  case error = 3
  case warning
  case info = 6
  case debug

  var name: Literal {
    switch self {
    case .error: "error"
    case .warning: "warning"
    case .info: "info"
    case .debug: "debug"
    }
  }
}

/// Which lines are written.
enum Verbosity: Int, Comparable {
  case quiet, normal, verbose, debug

  static func < (left: Verbosity, right: Verbosity) -> Bool { left.rawValue < right.rawValue }

  /// One step up, up to the last.
  mutating func increase() { self = Verbosity(rawValue: rawValue + 1) ?? .debug }
}

/// What the log has been told.
nonisolated(unsafe) var logSettings = LogSettings()

/// How lines are written, and what may be in them.
struct LogSettings {
  /// The reader of the lines decides on their form.
  enum Reader {
    case terminal
    /// The journal, by way of the standard error: `<6>` tells the severity. Source: sd-daemon(3).
    case journal
    /// The system's log, by its socket. Source: syslog(3), RFC 3164.
    case syslog
  }

  var program: Literal = "pyknock"
  var verbosity = Verbosity.normal
  var showsArguments = false
  var reader = Reader.terminal
  /// The process ID that users know; the receiver may not ask for its own.
  var process: Int32 = 0
  var isJSON = false
}

/// The text of the message that is being written. There is one, since the program has one thread and no heap.
/// Longer texts are cut.
nonisolated(unsafe) var messageText = TextBuffer<1024>()

/// What the message that is being written is about.
nonisolated(unsafe) var messageSubject = MessageSubject()

/// What a log of JSON objects says about a message, besides its text.
struct MessageSubject {
  var knock: Knock?
  var user = UserName.none
  var source: SocketAddress?

  /// The whole line, with its end.
  func line(
    _ text: borrowing TextBuffer<1024>, _ severity: Severity, _ settings: LogSettings
  ) -> TextBuffer<1024> {
    var whole = TextBuffer<1024>()
    switch settings.reader {
    case .terminal: break
    case .journal:
      whole.append("<")
      whole.append(severity.rawValue)
      whole.append(">")
    case .syslog:
      let daemon: UInt8 = 3 << 3
      whole.append("<")
      whole.append(daemon | severity.rawValue)
      whole.append(">pyknock-server[")
      whole.append(settings.process)
      whole.append("]: ")
    }
    if settings.isJSON {
      appendObject(text, severity, to: &whole)
    } else {
      if settings.reader != .syslog {
        whole.append(settings.program)
        whole.append(": ")
      }
      text.withBytes { whole.append($0) }
    }
    whole.endLine()
    return whole
  }

  /// Source: RFC 8259; the time is that of RFC 3339.
  private func appendObject(
    _ text: borrowing TextBuffer<1024>, _ severity: Severity, to object: inout TextBuffer<1024>
  ) {
    object.append("{\"time\":\"")
    object.append(utc: SystemClock.wall())
    object.append("\",\"level\":\"")
    object.append(severity.name)
    if let knock {
      object.append("\",\"command\":\"")
      object.append(knock.command.name)
      object.append("\",\"address\":\"")
      object.append(knock.address)
    }
    if !user.isEmpty {
      object.append("\",\"user\":\"")
      object.append(user)
    }
    if let source {
      object.append("\",\"source\":\"")
      object.append(source)
    }
    object.append("\",\"message\":\"")
    let longestCharacter = 2
    let end: Literal = "\"}\n"
    text.withBytes { bytes in
      for index in bytes.indices {
        guard object.count + longestCharacter + end.count <= 1024 else {
          break
        }
        // Untrusted text is quoted already, so this replaces hardly anything.
        let isPrintable = bytes[index] >= 0x20 && bytes[index] < 0x7F
        let byte = isPrintable ? bytes[index] : UInt8(ascii: "?")
        if byte == UInt8(ascii: "\"") || byte == UInt8(ascii: "\\") { object.append("\\") }
        object.append(byte: byte)
      }
    }
    object.append("\"}")
  }
}
