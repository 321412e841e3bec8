import KnockBase

/// An option of an applet: a row of the table that drives parsing, help and completions.
struct OptionSpec {
  /// The letter after `-`; 0 for none.
  let short: UInt8
  /// The name after `--`.
  let long: Literal
  /// What the help calls its value; empty if it takes none.
  let value: Literal
  let help: Literal
  /// Whether the Python original has it. Only these can be abbreviated: an abbreviation that is unique in
  /// the original stays unique here.
  let isOriginal: Bool

  init(
    _ short: Unicode.Scalar?, _ long: Literal, value: Literal = "",
    original: Bool = false, _ help: Literal
  ) {
    self.short = short.map { UInt8(ascii: $0) } ?? 0
    self.long = long
    self.value = value
    self.help = help
    self.isOriginal = original
  }

  var takesValue: Bool { !value.isEmpty }

  var name: OptionName { OptionName(short: short, long: long) }

  // The options of several applets.
  static var help: OptionSpec { OptionSpec("h", "help", original: true, "print this help") }
  static var keyFile: OptionSpec {
    OptionSpec("k", "key-file", value: "FILE", "read the key from line 1 of FILE (- for stdin)")
  }
  static var version: OptionSpec { OptionSpec("V", "version", "print the version") }
}

/// How an option is named in a message. It is small, so that errors are.
struct OptionName {
  let short: UInt8
  let long: Literal
}

/// The options of an applet: an enum whose raw values count from 0.
protocol OptionTable: ConfigurationKeyword, Equatable {
  static var help: Self { get }
  static var version: Self { get }
  var spec: OptionSpec { get }
  /// The heading of the group that begins with this option, in the help.
  var heading: Literal? { get }
}

extension OptionTable {
  static func spec(_ option: UInt8) -> OptionSpec? { Self(rawValue: option)?.spec }

  var name: Literal { spec.long }
  var isKeyword: Bool { false }
}

extension OptionName: MessageConvertible {
  /// `-p/--port`.
  var message: Message {
    short == 0 ? "--\(long)" : "-\(letter: short)/--\(long)"
  }
}

extension Message.Parts {
  fileprivate mutating func appendInterpolation(letter: UInt8) {
    write { $0.append(byte: letter) }
  }
}
