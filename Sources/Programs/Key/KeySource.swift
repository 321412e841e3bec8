/// Where the key comes from.
enum KeySource {
  /// An operand of the command line, overwritten once it is read.
  case operand(Argument)
  /// The first line of a file; `-` is the standard input.
  case file(Argument)
}

/// Why there is no usable key. No case holds any part of it.
enum KeyError: Error, Equatable {
  /// There is no such file. Its name may then well be the key.
  case notFound(SystemError)
  case cannotRead(SystemError)
  /// No line came in this time (microseconds).
  case timedOut(after: Int64)
  case writableByOthers
  case empty
  case holdsNUL
  case tooLong
  case notLatin1
  case outOfMemory
}

extension KeyError: MessageConvertible {
  var message: Message {
    switch self {
    case .notFound(let error), .cannotRead(let error): error.message
    case .timedOut(let patience): "no line came within \(seconds: patience) seconds"
    case .writableByOthers: "others may write it; chmod 600 prevents that"
    case .empty: "the key is empty"
    case .holdsNUL: "the key has a NUL byte in it"
    case .tooLong: "the key is longer than \(Key.maximumSize) bytes"
    case .notLatin1:
      "the key is not UTF-8 text of characters up to U+00FF, which version 1 needs"
    case .outOfMemory: SystemError.outOfMemory.message
    }
  }
}

/// Why a file gives no key.
struct KeyFileError: Error {
  let path: Argument
  let error: KeyError
}

extension KeyFileError: MessageConvertible {
  var message: Message {
    if case .notFound = error {
      "key file (not shown, it may be the key itself): \(error)"
    } else {
      "key file \(quoted: path): \(error)"
    }
  }
}
