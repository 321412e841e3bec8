import KnockBase

/// An option of an applet: a row of the table that drives both parsing and help.
struct OptionSpec {
  /// The letter behind `-`; 0 for none.
  let short: UInt8
  /// The name behind `--`.
  let long: StaticString
  /// What the help calls its value; empty if it takes none.
  let value: StaticString
  let help: StaticString
  /// Whether the Python original has it. Only these may be abbreviated, so that what was a unique
  /// abbreviation there stays one here.
  let isOriginal: Bool

  init(
    _ short: Unicode.Scalar?, _ long: StaticString, value: StaticString = "",
    original: Bool = false, _ help: StaticString
  ) {
    self.short = short.map { UInt8(ascii: $0) } ?? 0
    self.long = long
    self.value = value
    self.help = help
    self.isOriginal = original
  }

  var takesValue: Bool { value.utf8CodeUnitCount > 0 }

  /// The options that every applet has, or several.
  static var help: OptionSpec { OptionSpec("h", "help", original: true, "print this help") }
  static var keyFile: OptionSpec {
    OptionSpec(
      "k", "key-file", value: "FILE", "take the key from the first line of FILE; - is stdin")
  }
  static var version: OptionSpec { OptionSpec("V", "version", "print the version") }
}

/// The options of an applet: an enum whose raw values count from 0.
protocol OptionTable: Equatable {
  init?(rawValue: UInt8)
  static var help: Self { get }
  static var version: Self { get }
  var spec: OptionSpec { get }
}

/// What the command line holds next.
enum Token<Option: OptionTable> {
  /// With its value, if it takes one.
  case option(Option, Argument?)
  case operand(Argument)
  case misuse(Misuse)
}

/// Reads a command line as Python's argparse does, which the original uses: options before,
/// between and behind the operands; `-p60120`, `-p=60120`, `--port=60120`, `--port 60120`; clusters
/// of flags; `--`. What looks like an option but is a negative number, or has a blank in it and no
/// name that we know, is an operand.
struct ArgumentReader<Option: OptionTable> {
  private let arguments: ArgumentList
  private var index = 0
  /// Where the next letter of a cluster of flags stands in the argument before `index`; 0 if none.
  private var clusterOffset = 0
  /// Whether `--` was there.
  private(set) var onlyOperands = false

  init(_ arguments: ArgumentList) { self.arguments = arguments }

  mutating func next() -> Token<Option>? {
    if clusterOffset > 0, let argument = arguments[index - 1] {
      return short(in: argument, at: clusterOffset)
    }
    guard let argument = arguments[index] else { return nil }
    index += 1
    guard !onlyOperands else { return .operand(argument) }
    switch Self.kind(of: argument) {
    case .separator:
      onlyOperands = true
      return next()
    case .operand: return .operand(argument)
    case .short: return short(in: argument, at: 1)
    case .long: return long(argument)
    }
  }

  /// All from the token that came last.
  mutating func takeRest() -> ArgumentList {
    let rest = arguments.dropFirst(index - 1)
    index = arguments.count
    return rest
  }

  private enum Kind { case operand, separator, short, long }

  private static func kind(of argument: Argument) -> Kind {
    argument.withBytes { text in
      guard text.count >= 2, text[0] == UInt8(ascii: "-") else { return .operand }
      if text.count == 2, text[1] == UInt8(ascii: "-") { return .separator }
      let isLong = text[1] == UInt8(ascii: "-")
      if isLong {
        if named(text) != .none { return .long }
      } else {
        let isLettered = lettered(text[1]) != nil
        if isLettered, text.count == 2 { return .short }
        if isNegativeNumber(text) { return .operand }
        if isLettered { return .short }
      }
      for index in text.indices where text[index] == UInt8(ascii: " ") { return .operand }
      return isLong ? .long : .short
    }
  }

  /// `-\d+` or `-\d*\.\d+`.
  private static func isNegativeNumber(_ text: Span<UInt8>) -> Bool {
    var points = 0
    for index in 1..<text.count {
      switch text[index] {
      case UInt8(ascii: "0")...UInt8(ascii: "9"): continue
      case UInt8(ascii: ".") where index < text.count - 1: points += 1
      default: return false
      }
    }
    return points <= 1
  }

  private mutating func short(in argument: Argument, at offset: Int) -> Token<Option> {
    let (letter, atEnd, hasEqualSign) = argument.withBytes { text in
      (
        text[offset], offset + 1 == text.count,
        offset + 1 < text.count && text[offset + 1] == UInt8(ascii: "=")
      )
    }
    clusterOffset = 0
    guard let option = Self.lettered(letter) else { return .misuse(.unknownOption(argument)) }
    guard option.spec.takesValue else {
      clusterOffset = atEnd ? 0 : offset + 1
      return .option(option, nil)
    }
    guard !atEnd else { return valueBehind(option) }
    let start = hasEqualSign ? offset + 2 : offset + 1
    return .option(option, unsafe Argument(argument.pointer + start))
  }

  private mutating func long(_ argument: Argument) -> Token<Option> {
    let (match, equalSign) = argument.withBytes { text in
      (Self.named(text), nameEnd(text))
    }
    switch match {
    case .none: return .misuse(.unknownOption(argument))
    case .ambiguous(let first, let second):
      return .misuse(.ambiguousOption(argument, first.spec, second.spec))
    case .one(let option):
      let hasValue = equalSign < argument.count
      if !option.spec.takesValue {
        return hasValue ? .misuse(.unexpectedValue(option.spec)) : .option(option, nil)
      }
      guard hasValue else { return valueBehind(option) }
      return .option(option, unsafe Argument(argument.pointer + equalSign + 1))
    }
  }

  private mutating func valueBehind(_ option: Option) -> Token<Option> {
    if !onlyOperands, let argument = arguments[index], Self.kind(of: argument) == .separator {
      onlyOperands = true
      index += 1
    }
    guard let argument = arguments[index], onlyOperands || Self.kind(of: argument) == .operand
    else { return .misuse(.missingValue(option.spec)) }
    index += 1
    return .option(option, argument)
  }

  private static func lettered(_ letter: UInt8) -> Option? {
    var number: UInt8 = 0
    while let option = Option(rawValue: number) {
      if option.spec.short == letter, letter != 0 { return option }
      number += 1
    }
    return nil
  }

  private enum Match: Equatable {
    case none
    case one(Option)
    case ambiguous(Option, Option)
  }

  /// The option that `--name` or `--name=value` means.
  private static func named(_ text: Span<UInt8>) -> Match {
    let name = text.extracting(2..<nameEnd(text))
    var match = Match.none
    var number: UInt8 = 0
    while let option = Option(rawValue: number) {
      number += 1
      if name.equals(option.spec.long) { return .one(option) }
      guard option.spec.isOriginal, name.isPrefix(of: option.spec.long) else { continue }
      switch match {
      case .none: match = .one(option)
      case .one(let first): match = .ambiguous(first, option)
      case .ambiguous: break
      }
    }
    return match
  }

}

/// Where the name of `--name=value` ends: at the first `=`, or with the text.
private func nameEnd(_ text: Span<UInt8>) -> Int {
  for index in text.indices where text[index] == UInt8(ascii: "=") { return index }
  return text.count
}

/// A mistake in a command line.
enum Misuse: Error {
  case unknownOption(Argument)
  case ambiguousOption(Argument, OptionSpec, OptionSpec)
  case missingValue(OptionSpec)
  case unexpectedValue(OptionSpec)
  /// `accepted` goes on after "is not", or "the value is not".
  case badValue(OptionSpec, Argument, accepted: StaticString)
  /// What is wrong, behind the option's name.
  case unsuitable(OptionSpec, StaticString)
  /// Of an operand that is not the key, by name.
  case badOperand(StaticString, Argument, accepted: StaticString)
  case operandCount(needed: Int, names: StaticString, given: Int)
  /// Of OPEN_CMD or CLOSE_CMD, by name.
  case command(name: StaticString, CommandTemplate.Failure)
  case key(KeyError)
  /// Neither in the command line nor in client.conf.
  case noKey(host: Argument)

  /// Writes what is wrong. The user's arguments are only shown where `mayQuote` says that none of
  /// them is the key: in a command line with a mistake in it, nobody can tell which one that is.
  func describe(to line: inout Line, mayQuote: Bool) {
    switch self {
    case .unknownOption(let argument):
      line.append("unknown option")
      if mayQuote {
        line.append(" ")
        line.append(quotedNameOf: argument)
      } else {
        line.append(" (not shown, it may be the key; put -- before a key that begins with '-')")
      }
    case .ambiguousOption(let argument, let first, let second):
      line.append("option ")
      line.append(quotedNameOf: argument)
      line.append(" may be --")
      line.append(first.long)
      line.append(" or --")
      line.append(second.long)
    case .missingValue(let spec):
      line.append(spec)
      line.append(" needs a value: ")
      line.append(spec.value)
    case .unexpectedValue(let spec):
      line.append(spec)
      line.append(" takes no value")
    case .badValue(let spec, let value, let accepted):
      line.append(spec)
      line.append(": ")
      line.append(quoted: value, if: mayQuote)
      line.append(" is not ")
      line.append(accepted)
    case .unsuitable(let spec, let reason):
      line.append(spec)
      line.append(reason)
    case .badOperand(let name, let value, let accepted):
      line.append(name)
      line.append(": ")
      line.append(quoted: value, if: mayQuote)
      line.append(" is not ")
      line.append(accepted)
    case .operandCount(let needed, let names, let given):
      line.append("operands: ")
      line.append(names)
      line.append(" (")
      line.append(needed)
      line.append(") needed, ")
      line.append(given)
      line.append(" given")
    case .command(let name, let failure):
      line.append(name)
      line.append(": ")
      line.append(failure)
    case .noKey(let host):
      line.append("no key: give PSK, -k FILE, or a KeyFile for ")
      line.append(quoted: host)
      line.append(" in client.conf")
    case .key(let error):
      line.append("PSK: ")
      line.append(error)
    }
  }
}

extension OptionSpec: MessageConvertible {
  /// `-p/--port`.
  var message: Message {
    short == 0 ? "--\(long)" : "-\(letter: short)/--\(long)"
  }
}

extension Message.Parts {
  fileprivate mutating func appendInterpolation(letter: UInt8) { append(byte: letter) }
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

  /// The name of `--name=value` between quotes.
  fileprivate mutating func append(quotedNameOf argument: Argument) {
    argument.withBytes { append(quoted: $0.extracting(first: nameEnd($0))) }
  }

  /// `-p/--port`.
  mutating func append(_ spec: OptionSpec) {
    if spec.short != 0 {
      append(byte: UInt8(ascii: "-"))
      append(byte: spec.short)
      append(byte: UInt8(ascii: "/"))
    }
    append("--")
    append(spec.long)
  }

  /// The lines of the help for the options of an applet.
  mutating func append<Option: OptionTable>(helpOf table: Option.Type) {
    var number: UInt8 = 0
    while let option = Option(rawValue: number) {
      number += 1
      let spec = option.spec
      append("  ")
      if spec.short != 0 {
        append(byte: UInt8(ascii: "-"))
        append(byte: spec.short)
        append(", --")
      } else {
        append("    --")
      }
      append(spec.long)
      var width = 8 + spec.long.utf8CodeUnitCount
      if spec.takesValue {
        append(" ")
        append(spec.value)
        width += 1 + spec.value.utf8CodeUnitCount
      }
      if width > 30 {
        append("\n")
        width = 0
      }
      for _ in width..<32 { append(" ") }
      append(spec.help)
      append("\n")
    }
  }
}
