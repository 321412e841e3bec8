import KnockBase
import KnockProtocol

/// Where the key comes from.
enum KeySource {
  /// An operand of the command line, overwritten once it is read.
  case operand(Argument)
  /// The first line of a file that the command line names; `-` is the standard input.
  case file(Argument)
  /// The same, but a configuration file names it. So its name cannot be the key.
  case configuredFile(Argument)
  /// The same for client.conf. No message has its name: it may be a key after all.
  case hiddenFile(Argument)
  /// A value in a configuration file, overwritten in memory once it is read.
  case setting(Argument)
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
  case line(KeyLineFault)
  /// The file has a second line that is not blank.
  case secondLine
  case tooLong
  case notLatin1
  case version2(Version2.KeyTextFault)
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
    case .line(let fault): fault.message
    case .secondLine:
      """
      the file has more than one line; it must hold only the key (of a file of --keys, copy only its first line)
      """
    case .tooLong: "the key is longer than \(Key.maximumSize) bytes"
    case .notLatin1:
      "the key is not UTF-8 text of characters up to U+00FF, which version 1 needs"
    case .version2(let fault): "the key of version 2 \(fault)"
    case .outOfMemory: SystemError.outOfMemory.message
    }
  }
}

extension Version2.KeyTextFault: MessageConvertible {
  /// Goes on after "the key of version 2".
  var message: Message {
    switch self {
    case .notAlone: "has something before pk2.; remove that"
    case .capitals: "begins with pk2. in capitals, so the case of its letters is lost"
    case .length:
      "has another length than \(Version2.keyTextSize) characters; copy the whole key again"
    case .alphabet: "has a character other than letters, digits, - and _; copy it again"
    case .lastBits, .check: "is not what keygen has printed: a character is wrong; copy it again"
    }
  }
}

extension KeyLineFault: MessageConvertible {
  var message: Message {
    switch self {
    case .pem: Self.known("a PEM or PGP file")
    case .sshKey: Self.known("an SSH public key")
    case .puttyKey: Self.known("a PuTTY key")
    case .ageKey: Self.known("an age key or file")
    case .minisignKey: Self.known("a minisign file")
    case .comment: Self.known("a comment or a script")
    case .markup: Self.known("XML, HTML or YAML")
    case .json: Self.known("JSON")
    case .firewallRules: Self.known("a set of firewall rules")
    case .section: Self.known("an INI section or a JSON array")
    case .byteOrderMark: "it begins with a byte-order mark; save it as UTF-8 without one"
    case .blanks: "there is a blank before or after the key; remove it"
    case .quotes: "there is a quote before or after the key; remove it"
    case .name: "there is a name before the key; leave only the key"
    }
  }

  private static func known(_ kind: Literal) -> Message {
    "its first line is that of \(kind), not a key; pyknock keygen -o FILE makes one"
  }
}

/// Why a file gives no key.
struct KeyFileError: Error {
  let path: Argument
  /// Whether a configuration file names it.
  let isConfigured: Bool
  let error: KeyError
}

extension KeyFileError: MessageConvertible {
  var message: Message {
    if case .notFound = error, !isConfigured, !path.isPath {
      "key file (not shown, it may be the key itself): \(error)"
    } else {
      "key file \(quoted: path): \(error)"
    }
  }
}
