import KnockBase

/// Why a configuration file cannot be used.
enum ConfigurationFailure: Error {
  /// There is no such file. Its name may then well be the key.
  case notFound(Argument, SystemError)
  case cannotRead(Argument, SystemError)
  /// Lines count from 1.
  case line(Argument, Int, Line)

  /// What is wrong with a line.
  enum Line: Error {
    case syntax(ConfigLine.Failure)
    /// The word, unless it must not be shown, and the keyword that is most likely meant.
    case unknownKeyword(Argument?, meant: Literal?)
    /// The first line has no keyword, or no value.
    case perhapsKey
    /// The value of a keyword.
    case misuse(Misuse)
  }
}

/// The same with the keywords that the file may have.
struct ConfigurationError<Keyword: ConfigurationKeyword>: Error {
  let failure: ConfigurationFailure
}

extension ConfigurationError: MessageConvertible {
  var message: Message {
    if case .line(_, _, .unknownKeyword(let word, meant: nil)) = failure {
      "\(failure)\(word == nil ? "; keywords are " : " is not " as Literal)\(list: Keyword.self)"
    } else {
      failure.message
    }
  }
}

extension ConfigurationError {
  /// The same without anything of the line but its keyword.
  var withoutWord: Self {
    guard case .line(let path, let number, .unknownKeyword(_, let meant)) = failure else {
      return self
    }
    return Self(failure: .line(path, number, .unknownKeyword(nil, meant: meant)))
  }
}

extension ConfigurationFailure: MessageConvertible {
  var message: Message {
    switch self {
    case .notFound(let path, let error):
      if log.showsArguments || path.isPath {
        "\(quoted: path): \(error)"
      } else {
        "configuration file (not shown, it may be the key): \(error)"
      }
    case .cannotRead(let path, let error):
      if error == .accessDenied {
        """
        \(quoted: path): \(error) (it must belong to this user or root, and only its owner may write to it)
        """
      } else {
        "\(quoted: path): \(error)\(error == .invalid ? " (it is no regular file)" as Literal : "")"
      }
    case .line(let path, let number, let error): "\(quoted: path):\(number): \(error)"
    }
  }
}

extension ConfigurationFailure.Line: MessageConvertible {
  var message: Message {
    switch self {
    case .syntax(.noValue): "a keyword without a value"
    case .syntax(.openQuote): "a quote that is not closed"
    case .syntax(.innerQuote): "a quote inside quotes: leave out the outer ones"
    case .syntax(.holdsNUL): "a NUL in the line"
    case .unknownKeyword(let word?, let meant?):
      "unknown keyword \(quoted: word); you may mean \(meant)"
    case .unknownKeyword(let word?, nil): "\(quoted: word)"
    case .unknownKeyword(nil, let meant?): "unknown keyword; you may mean \(meant)"
    case .unknownKeyword(nil, nil): "unknown keyword"
    case .perhapsKey:
      "no keyword with a value (not shown, it may be the key); to read a key, write -k FILE"
    case .misuse(let misuse): misuse.messageWithArguments
    }
  }
}

extension Message.Parts {
  /// All keywords.
  fileprivate mutating func appendInterpolation<Keyword: ConfigurationKeyword>(list: Keyword.Type) {
    var keywords = Cases<Keyword>()
    var isFirst = true
    while let keyword = keywords.next() {
      guard keyword.isKeyword else { continue }
      _ = "\(isFirst ? "" : ", ")\(keyword.name)" as Message
      isFirst = false
    }
  }
}
