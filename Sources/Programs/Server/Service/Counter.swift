import KnockBase

/// A number that the server tells, in the log and in the file of `--metrics`.
struct Counter {
  enum Kind {
    /// What only grows since the start.
    case total
    /// What is now.
    case gauge
    /// Some that only grow, with one name for all and a label for each.
    case refused, command
  }

  let name: StaticString
  let kind: Kind
  let help: StaticString

  init(_ name: StaticString, _ kind: Kind, _ help: StaticString) {
    self.name = name
    self.kind = kind
    self.help = help
  }

  /// ` accepted=2`.
  func write(_ value: UInt64, to line: inout Line) {
    line.append(" ")
    line.append(name)
    line.append("=")
    line.append(value)
  }

  /// Writes a line of the text format of Prometheus, version 0.0.4, after those that say what it is.
  ///
  /// - Parameter last: the one before.
  func write(_ value: UInt64, to text: inout FileText, after last: Counter?) {
    if last?.kind != kind || kind == .total || kind == .gauge {
      text.append("# HELP ")
      writeName(to: &text)
      text.append(" ")
      text.append(help)
      text.append("\n# TYPE ")
      writeName(to: &text)
      text.append(kind == .gauge ? " gauge\n" : " counter\n")
    }
    writeName(to: &text)
    if kind == .refused || kind == .command {
      text.append(kind == .refused ? "{reason=\"" : "{result=\"")
      text.append(name)
      text.append("\"}")
    }
    text.append(" ")
    text.append(value)
    text.append("\n")
  }

  private func writeName(to text: inout FileText) {
    text.append("pyknock_")
    switch kind {
    case .refused: text.append("refused")
    case .command: text.append("commands")
    case .total, .gauge:
      name.withUTF8Buffer { bytes in
        for index in bytes.indices {
          let byte = unsafe bytes[index]
          text.append(byte: byte == UInt8(ascii: "-") ? UInt8(ascii: "_") : byte)
        }
      }
    }
    if kind != .gauge { text.append("_total") }
  }
}
