import CSodium
import CSystem
import KnockBase
import KnockProtocol

/// Where the pre-shared key comes from.
enum KeySource {
  /// An operand of the command line, overwritten once it is read.
  case operand(Argument)
  /// The first line of a file; `-` is the standard input.
  case file(Argument)
}

/// Why there is no usable key. No case holds anything of it.
enum KeyError: Error, Equatable {
  /// There is no such file. Its name may then well be the key.
  case notFound(SystemError)
  case cannotRead(SystemError)
  case timedOut(milliseconds: Int64)
  case writableByOthers
  case empty
  case holdsNUL
  case tooLong
  case notLatin1
  case noMemory
}

enum Key {
  /// The greatest length of a key, in bytes of Latin-1.
  static let maximumSize = 4096
  /// Shorter keys are warned about: HMAC wants a key that nobody can guess.
  static let shortSize = 16
  static let readTimeoutMilliseconds: Int64 = 60_000

  /// Reads the key and expands it. Every copy of it in our memory is wiped, that in argv included.
  ///
  /// - Parameter patience: how long a pipe or terminal may take to give it (milliseconds).
  static func load(
    _ source: KeySource, within patience: Int64 = readTimeoutMilliseconds, report: Report
  ) throws(KeyError) -> KeyedMAC {
    // In UTF-8 each character up to U+00FF is at most two bytes; two more for the line's end.
    guard let text = Storage<UInt8>.mapped(2 * maximumSize + 2),
      let bytes = Storage<UInt8>.mapped(maximumSize + 1)
    else { throw .noMemory }
    var key = StorageText(bytes)
    defer {
      wipe(text)
      wipe(key.bytes)
    }

    let count =
      switch source {
      case .operand(let argument): take(argument, into: text)
      case .file(let path):
        try readFirstLine(of: path, into: text, within: patience, report: report)
      }
    guard count < text.count else { throw .tooLong }
    guard text.withElements(0..<count, { KeyText.encode(utf8: $0, into: &key) }) else {
      throw .notLatin1
    }
    guard key.count > 0 else { throw .empty }
    guard key.count <= maximumSize else { throw .tooLong }
    if key.count < shortSize {
      var line = Line(.warning)
      line.append("warning: the key is shorter than ")
      line.append(shortSize)
      line.append(" bytes and may be guessed; pyknock keygen makes a good one")
      report.write(line)
    }
    guard let mac = key.bytes.withElements(0..<key.count, { KeyedMAC(expanding: $0) }) else {
      throw .noMemory
    }
    return mac
  }

  /// Wipes what is larger than a page and so has pages of its own, and gives them back.
  private static func wipe(_ bytes: borrowing Storage<UInt8>) {
    unsafe sodium_memzero(bytes.baseAddress, bytes.count)
    unsafe csys_release_pages(bytes.baseAddress, bytes.count)
  }

  /// Copies the key out of argv and overwrites it there, so that ps(1) no longer shows it.
  private static func take(_ argument: Argument, into text: borrowing Storage<UInt8>) -> Int {
    let count = min(argument.count, text.count)
    argument.withBytes { bytes in
      for index in 0..<count { text[index] = bytes[index] }
    }
    unsafe sodium_memzero(argument.pointer, argument.count)
    return count
  }

  /// - Returns: the length of the line without its end (LF or CR LF); that of `text` where the line
  ///   is longer.
  private static func readFirstLine(
    of path: Argument, into text: borrowing Storage<UInt8>, within patience: Int64, report: Report
  ) throws(KeyError) -> Int {
    if path == "-" { return try readFirstLine(from: 0, into: text, within: patience) }
    let result = unsafe csys_open_to_read(path.pointer)
    guard result >= 0 || result == -EACCES else {
      throw .notFound(SystemError(number: -result))
    }
    let file = Descriptor(owning: try check(result))
    let mode = try check(csys_mode(file.number))
    if mode & CSYS_REGULAR_FILE != 0 {
      guard mode & 0o022 == 0 else { throw .writableByOthers }
      if mode & 0o004 != 0 {
        report.write("warning: key file", path, as: .warning) {
          $0.append("others may read it; chmod 600 prevents that")
        }
      }
    }
    return try readFirstLine(from: file.number, into: text, within: patience)
  }

  private static func readFirstLine(
    from descriptor: Int32, into text: borrowing Storage<UInt8>, within patience: Int64
  ) throws(KeyError) -> Int {
    let deadline = Clock.monotonicMilliseconds() + patience
    var count = 0
    while count < text.count {
      let isReadable: Bool
      do throws(SystemError) {
        isReadable = try waitUntilReadable(descriptor, until: deadline)
      } catch { throw .cannotRead(error) }
      guard isReadable else { throw .timedOut(milliseconds: patience) }
      let start = unsafe text.baseAddress.map { unsafe $0 + count }
      let result = unsafe csys_read(descriptor, start, text.count - count)
      if result == -EAGAIN { continue }
      let end = count + Int(try check(result))
      for index in count..<end {
        if text[index] == 0 { throw .holdsNUL }
        guard text[index] == UInt8(ascii: "\n") else { continue }
        return index > 0 && text[index - 1] == UInt8(ascii: "\r") ? index - 1 : index
      }
      if end == count { break }
      count = end
    }
    return count
  }

  /// Reports why a file gives no key.
  static func write(_ error: KeyError, of path: Argument, to report: Report) {
    if case .notFound = error {
      var line = Line(.error)
      line.append("key file (not shown, it may be the key itself): ")
      line.append(error)
      report.write(line)
    } else {
      report.write("key file", path) { $0.append(error) }
    }
  }

  private static func check(_ result: Int32) throws(KeyError) -> Int32 {
    guard result >= 0 else { throw .cannotRead(SystemError(number: -result)) }
    return result
  }
}

extension KeyError: MessageConvertible {
  var message: Message {
    switch self {
    case .notFound(let error), .cannotRead(let error): error.message
    case .timedOut(let milliseconds): "no line came within \(milliseconds / 1000) seconds"
    case .writableByOthers: "others may write it; chmod 600 prevents that"
    case .empty: "the key is empty"
    case .holdsNUL: "the key has a NUL byte in it"
    case .tooLong: "the key is longer than \(Key.maximumSize) bytes"
    case .notLatin1:
      "the key is not UTF-8 text of characters up to U+00FF, which version 1 needs"
    case .noMemory: SystemError(number: ENOMEM).message
    }
  }
}

extension TextSink where Self: ~Copyable {
  mutating func append(_ error: KeyError) {
    switch error {
    case .notFound(let error), .cannotRead(let error): append(error)
    case .timedOut(let milliseconds):
      append("no line came within ")
      append(milliseconds / 1000)
      append(" seconds")
    case .writableByOthers: append("others may write it; chmod 600 prevents that")
    case .empty: append("the key is empty")
    case .holdsNUL: append("the key has a NUL byte in it")
    case .tooLong:
      append("the key is longer than ")
      append(Key.maximumSize)
      append(" bytes")
    case .notLatin1:
      append("the key is not UTF-8 text of characters up to U+00FF, which version 1 needs")
    case .noMemory: append(SystemError(number: ENOMEM))
    }
  }
}

extension Applet {
  /// Reports why there is no key: of an operand as a mistake in the command line.
  static func fail(_ error: KeyError, from source: KeySource, _ report: Report) -> ExitCode {
    guard case .file(let path) = source else { return fail(.key(error), mayQuote: false) }
    Key.write(error, of: path, to: report)
    return .failure
  }
}
