import KnockBase

/// The name and meaning of a number that the server shows in the log and in the file of `--metrics`.
@safe struct Counter {
  enum Kind {
    /// It only grows.
    case total
    /// It is the present value of something.
    case gauge
    /// It only grows, and shares its metric's name with others that have other labels.
    case refused, command
  }

  /// Strings of C: with the length the program would be a kilobyte larger.
  let name: UnsafePointer<CChar>
  let kind: Kind
  private let help: UnsafePointer<CChar>

  init(_ name: Literal, _ kind: Kind, _ help: Literal) {
    unsafe self.name = unsafe name.cString
    self.kind = kind
    unsafe self.help = unsafe help.cString
  }

  /// Writes a line in the text format of Prometheus, version 0.0.4. The lines that explain a metric come before the
  /// first line with its name.
  ///
  /// - Parameter last: the counter of the line before.
  func write(_ value: UInt64, to text: inout TextOutput, after last: Counter?) {
    if last?.kind != kind || kind == .total || kind == .gauge {
      text.append("# HELP ")
      writeName(to: &text)
      text.append(" ")
      unsafe text.append(cString: help)
      text.append("\n# TYPE ")
      writeName(to: &text)
      text.append(kind == .gauge ? " gauge\n" : " counter\n")
    }
    writeName(to: &text)
    if kind == .refused || kind == .command {
      text.append(kind == .refused ? "{reason=\"" : "{result=\"")
      unsafe text.append(cString: name)
      text.append("\"}")
    }
    text.append(" ")
    text.append(value)
    text.append("\n")
  }

  private func writeName(to text: inout TextOutput) {
    text.append("pyknock_")
    switch kind {
    case .refused: text.append("refused")
    case .command: text.append("commands")
    case .total, .gauge:
      var next = unsafe name
      while unsafe next.pointee != 0 {
        let byte = unsafe UInt8(bitPattern: next.pointee)
        text.append(byte: byte == UInt8(ascii: "-") ? UInt8(ascii: "_") : byte)
        unsafe next += 1
      }
    }
    if kind != .gauge { text.append("_total") }
  }
}
