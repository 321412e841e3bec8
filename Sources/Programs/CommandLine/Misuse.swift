import KnockBase

/// A mistake in a command line, or in a value of a configuration file.
enum Misuse: Error {
  case unknownOption(Argument)
  case ambiguousOption(Argument, Literal, Literal)
  case missingValue(OptionName, value: Literal)
  case unexpectedValue(OptionName)
  case badValue(OptionName, Argument, accepted: Literal)
  /// The reason follows the option's name, with its own space or colon.
  case unsuitable(OptionName, Literal)
  /// Of an operand that is not the key.
  case badOperand(Literal, Argument, accepted: Literal)
  case unsuitableOperand(Literal, Literal)
  /// The number of operands is wrong. The text says what to write.
  case operands(Literal, given: Int)
  case unknownCommand(Argument)
  case key(KeyError)
  /// Of a configuration file. The value is not shown.
  case badSetting(Literal, accepted: Literal)
  case keySetting(Literal, KeyError)
  /// Neither the command line nor client.conf names a key.
  case noKey(host: Argument)
}

extension Misuse: MessageConvertible {
  var message: Message {
    switch self {
    case .unknownOption(let argument):
      // Nobody has a key so short.
      if log.showsArguments || argument.count == 2 {
        "unknown option \(nameOf: argument)"
      } else {
        "unknown option (not shown, it may be the key; put -- before a key that begins with '-')"
      }
    case .ambiguousOption(let argument, let first, let second):
      "option \(nameOf: argument) may be --\(first) or --\(second)"
    case .missingValue(let name, let value): "\(name) needs a value: \(value)"
    case .unexpectedValue(let name): "\(name) takes no value"
    case .badValue(let name, let value, let accepted):
      "\(name): \(argument: value) is not \(accepted)"
    case .unsuitable(let name, let reason): "\(name)\(reason)"
    case .badOperand(let name, let value, let accepted):
      "\(name): \(argument: value) is not \(accepted)"
    case .unsuitableOperand(let name, let reason): "\(name): \(reason)"
    case .operands(let advice, let given): "\(advice); operands given: \(given)"
    case .unknownCommand(let word):
      if word.isLowerCaseWord {
        "COMMAND: \(quoted: word) is not open, close, check, connect, list or import"
      } else {
        "COMMAND: \(argument: word) is not open, close, check, connect, list or import"
      }
    case .key(let error): "PSK: \(error)"
    case .badSetting(let name, let accepted): "\(name): the value is not \(accepted)"
    case .keySetting(let name, let error): "\(name): \(error)"
    case .noKey(let host):
      "no key: give PSK, -k FILE, or a Key or KeyFile for \(quoted: host) in client.conf"
    }
  }

  /// The message about a value that cannot be the key, whatever the command line is.
  var messageWithArguments: Message {
    let shown = log.showsArguments
    log.showsArguments = true
    defer { log.showsArguments = shown }
    return message
  }
}

extension Argument {
  /// Whether it is a short word of lower-case letters. If a command is expected, nobody means such a word as a key.
  /// So a message may show it.
  var isLowerCaseWord: Bool {
    withBytes { word in
      for index in word.indices where !(0x61...0x7A).contains(word[index]) { return false }
      return !word.isEmpty && word.count < Key.shortSize
    }
  }
}

extension Message.Parts {
  /// The name of `--name=value` between quotes.
  fileprivate mutating func appendInterpolation(nameOf argument: Argument) {
    argument.withBytes { text in
      write { $0.append(quoted: text.extracting(first: optionNameEnd(text))) }
    }
  }
}
