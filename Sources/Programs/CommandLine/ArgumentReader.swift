import KnockBase

/// The next part of a command line.
enum Token {
  /// The number of an option, with its value if it takes one.
  case option(UInt8, Argument?)
  case operand(Argument)
  case misuse(Misuse)
}

/// Reads a command line as Python's argparse does, which the original uses.
///
/// Options stand before, between and after the operands: `-p60120`, `-p=60120`, `--port=60120`, `--port 60120`,
/// or a cluster of flags. After `--` there are only operands. A negative number is an operand; so is an
/// argument that begins with `-` and has a blank in it, unless it names an option.
struct ArgumentReader {
  private let arguments: ArgumentList
  private var index = 0
  /// The place of the next letter of a cluster of flags, in the argument before `index`; 0 if there is none.
  private var clusterOffset = 0
  /// Whether `--` was read.
  private(set) var onlyOperands = false

  init(_ arguments: ArgumentList) { self.arguments = arguments }

  mutating func next(_ options: OptionList) -> Token? {
    if clusterOffset > 0, let argument = arguments[index - 1] {
      return short(in: argument, at: clusterOffset, options)
    }
    guard let argument = arguments[index] else { return nil }
    index += 1
    guard !onlyOperands else { return .operand(argument) }
    switch Self.kind(of: argument, options) {
    case .separator:
      onlyOperands = true
      return next(options)
    case .operand: return .operand(argument)
    case .unknown: return .misuse(.unknownOption(argument))
    case .short: return short(in: argument, at: 1, options)
    case .long: return long(argument, options)
    }
  }

  /// How many arguments there still are, with the one that `next` returned last.
  var restCount: Int { arguments.count - index + 1 }

  /// The rest of the arguments, with the token that `next` returned last.
  mutating func takeRest() -> ArgumentList {
    let rest = arguments.dropFirst(index - 1)
    index = arguments.count
    return rest
  }

  private enum Kind { case operand, separator, unknown, short, long }

  private static func kind(of argument: Argument, _ options: OptionList) -> Kind {
    argument.withBytes { text in
      guard text.count >= 2, text[0] == UInt8(ascii: "-") else { return .operand }
      if text.count == 2, text[1] == UInt8(ascii: "-") { return .separator }
      let isLong = text[1] == UInt8(ascii: "-")
      if isLong {
        if option(named: text, of: options) != .none { return .long }
      } else {
        let isLettered = option(lettered: text[1], of: options) != nil
        if isLettered, text.count == 2 { return .short }
        // `-port` is a mistake for `--port`, and not the port `ort`. All names begin with letters.
        if text.count > 2, UInt8(ascii: "a")...UInt8(ascii: "z") ~= text[2] | 0x20,
          nearestOption(to: argument, of: options).isSame
        {
          return .unknown
        }
        if isNegativeNumber(text) { return .operand }
        if isLettered { return .short }
      }
      if text.firstIndex(of: UInt8(ascii: " ")) != nil { return .operand }
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

  private mutating func short(
    in argument: Argument, at offset: Int, _ options: OptionList
  ) -> Token {
    let (letter, atEnd, hasEqualSign) = argument.withBytes { text in
      (
        text[offset], offset + 1 == text.count,
        offset + 1 < text.count && text[offset + 1] == UInt8(ascii: "=")
      )
    }
    clusterOffset = 0
    guard let option = option(lettered: letter, of: options), let spec = options(option) else {
      return .misuse(.unknownOption(argument))
    }
    guard spec.takesValue else {
      clusterOffset = atEnd ? 0 : offset + 1
      return .option(option, nil)
    }
    guard !atEnd else { return value(after: option, spec, options) }
    let start = hasEqualSign ? offset + 2 : offset + 1
    return .option(option, unsafe Argument(argument.pointer + start))
  }

  private mutating func long(_ argument: Argument, _ options: OptionList) -> Token {
    let (match, equalSign) = argument.withBytes { text in
      (option(named: text, of: options), optionNameEnd(text))
    }
    switch match {
    case .none: return .misuse(.unknownOption(argument))
    case .ambiguous(let first, let second):
      return .misuse(
        .ambiguousOption(argument, options(first)?.long ?? "", options(second)?.long ?? ""))
    case .one(let option):
      guard let spec = options(option) else { return .misuse(.unknownOption(argument)) }
      let hasValue = equalSign < argument.count
      if !spec.takesValue {
        return hasValue ? .misuse(.unexpectedValue(spec.name)) : .option(option, nil)
      }
      guard hasValue else { return value(after: option, spec, options) }
      return .option(option, unsafe Argument(argument.pointer + equalSign + 1))
    }
  }

  private mutating func value(
    after option: UInt8, _ spec: OptionSpec, _ options: OptionList
  ) -> Token {
    if !onlyOperands, let argument = arguments[index],
      Self.kind(of: argument, options) == .separator
    {
      onlyOperands = true
      index += 1
    }
    guard let argument = arguments[index],
      onlyOperands || Self.kind(of: argument, options) == .operand
    else { return .misuse(.missingValue(spec.name, value: spec.value)) }
    index += 1
    return .option(option, argument)
  }
}

/// Where the name of `--name=value` ends: at the first `=`, or with the text.
func optionNameEnd(_ text: Span<UInt8>) -> Int {
  text.firstIndex(of: UInt8(ascii: "=")) ?? text.count
}
