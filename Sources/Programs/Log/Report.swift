import CSystem
import KnockBase
import KnockProtocol

/// A line of the log, without its end. Longer ones are cut. What it is about is kept for a log of objects.
struct Line: TextSink, ~Copyable {
  static let capacity = 1024

  let severity: Severity
  private var text = TextBuffer<1024>()
  private var knock: Knock?
  private var source: SocketAddress?

  // As in `TextSink`: there are a hundred calls of these.
  @inline(never)
  init(_ severity: Severity = .info) { self.severity = severity }

  mutating func append(byte: UInt8) { text.append(byte: byte) }

  /// `open 192.0.2.1`.
  @inline(never)
  mutating func append(_ knock: Knock) {
    self.knock = knock
    append(knock.command.name)
    append(" ")
    append(knock.address)
  }

  /// ` from 192.0.2.1:54321`.
  @inline(never)
  mutating func append(from source: SocketAddress) {
    self.source = source
    append(" from ")
    append(source)
  }

  mutating func endLine() { text.endLine() }

  func withBytes<Result>(_ body: (Span<UInt8>) -> Result) -> Result { text.withBytes(body) }

  /// Writes it as an object. Source: RFC 8259; the time is that of RFC 3339.
  fileprivate func append(to object: inout Line) {
    object.append("{\"time\":\"")
    object.append(utc: SystemClock.wallMicroseconds())
    object.append("\",\"level\":\"")
    object.append(severity.name)
    if let knock {
      object.append("\",\"command\":\"")
      object.append(knock.command.name)
      object.append("\",\"address\":\"")
      object.append(knock.address)
    }
    if let source {
      object.append("\",\"source\":\"")
      object.append(source)
    }
    object.append("\",\"message\":\"")
    let longestCharacter = 2
    let end = "\"}\n" as StaticString
    text.withBytes { bytes in
      for index in bytes.indices {
        guard object.text.count + longestCharacter + end.utf8CodeUnitCount <= Self.capacity else {
          break
        }
        // There is hardly any: what is not ours is quoted.
        let isPrintable = bytes[index] >= 0x20 && bytes[index] < 0x7F
        let byte = isPrintable ? bytes[index] : UInt8(ascii: "?")
        if byte == UInt8(ascii: "\"") || byte == UInt8(ascii: "\\") { object.append("\\") }
        object.append(byte: byte)
      }
    }
    object.append("\"}")
  }
}

/// The old way to the log; what it was told is in `logSettings`.
struct Report {
  var verbosity: Verbosity { log.verbosity }

  /// Writes a line, or drops it rather than wait for a reader that has stalled.
  @inline(never)
  func write(_ line: consuming Line) {
    var whole = Line()
    let settings = unsafe logSettings
    switch settings.reader {
    case .terminal: break
    case .journal:
      whole.append("<")
      whole.append(line.severity.rawValue)
      whole.append(">")
    case .syslog:
      let daemon: UInt8 = 3 << 3
      whole.append("<")
      whole.append(daemon | line.severity.rawValue)
      whole.append(">pyknock-server[")
      whole.append(settings.process)
      whole.append("]: ")
    }
    if settings.isJSON {
      line.append(to: &whole)
    } else {
      if settings.reader != .syslog {
        whole.append(settings.program)
        whole.append(": ")
      }
      line.withBytes { whole.append($0) }
    }
    writePlain(whole)
  }

  /// Writes a line as it is.
  func writePlain(_ line: consuming Line) {
    if unsafe logSettings.reader != .syslog { line.endLine() }
    line.withBytes { bytes in
      unsafe bytes.withUnsafeBytes { unsafe csys_write_log($0.baseAddress, $0.count) }
    }
  }

  @inline(never)
  func write(_ text: StaticString, as severity: Severity = .info) {
    var line = Line(severity)
    line.append(text)
    write(line)
  }

  /// Writes `what 'argument': why`.
  func write(
    _ what: StaticString, _ argument: Argument, as severity: Severity = .error,
    _ why: (inout Line) -> Void
  ) {
    var line = Line(severity)
    line.append(what)
    line.append(" ")
    line.append(quoted: argument)
    line.append(": ")
    why(&line)
    write(line)
  }
}

extension TextSink where Self: ~Copyable {
  /// An argument between quotes, unless it may be the key.
  mutating func append(quoted argument: Argument, if mayQuote: Bool) {
    if mayQuote {
      append(quoted: argument)
    } else {
      append("the value (not shown, it may be the key)")
    }
  }
}
