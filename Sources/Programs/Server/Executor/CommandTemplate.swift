import KnockBase
import KnockProtocol
import KnockServer

/// A command to run for a knock: words with placeholders.
struct CommandTemplate: ~Copyable {
  /// The kernel's limit for a word with its NUL (bytes). Source: MAX_ARG_STRLEN, execve(2).
  static let wordLimit = 131_072

  /// The words, each followed by a NUL byte.
  private let words: StorageText
  let wordCount: Int
  let usesShell: Bool

  enum Failure: Error, Equatable {
    case words(WordError)
    case wordTooLong
    case outOfMemory
  }

  /// - Parameter shell: whether `/bin/sh -c` runs the text. Otherwise it is split into words here. A text without
  ///   words is a command that does nothing.
  init(_ text: Argument, shell: Bool) throws(Failure) {
    // Room for two words and three NULs.
    guard let memory = Storage<UInt8>.mapped(text.count + 12) else { throw .outOfMemory }
    var words = StorageText(memory)
    let count: Int
    do throws(WordError) {
      count = try text.withBytes { text throws(WordError) in
        guard shell else { return try Words.split(text, into: &words) }
        guard text.count > 0 else { return 0 }
        words.append("/bin/sh")
        words.append(byte: 0)
        words.append("-c")
        words.append(byte: 0)
        words.append(text)
        words.append(byte: 0)
        return 3
      }
    } catch { throw .words(error) }
    var start = 0
    while let word = Self.word(at: start, in: words) {
      let length = words.bytes.withElements(word) { Template.longestExpansion($0) }
      guard length < Self.wordLimit else { throw .wordTooLong }
      start = word.upperBound + 1
    }
    self.words = words
    wordCount = count
    usesShell = shell
  }

  /// The greatest size of the expanded words with their NULs (bytes).
  var longestExpansion: Int {
    words.bytes.withElements(0..<words.count) { Template.longestExpansion($0) }
  }

  /// The program, if it is the same for each knock. It is valid as long as the command.
  var fixedProgram: Argument? {
    guard let word = Self.word(at: 0, in: words), let start = unsafe words.bytes.baseAddress else {
      return nil
    }
    for index in word where words.bytes[index] == UInt8(ascii: "$") { return nil }
    return unsafe UnsafeMutableRawPointer(start).withMemoryRebound(
      to: CChar.self, capacity: word.count + 1
    ) { unsafe Argument($0) }
  }

  /// Writes the words for a knock into `text`, each followed by a NUL byte, and lists them in
  /// `arguments`.
  func expand(for knock: Knock, into text: inout StorageText, _ arguments: inout StringList) {
    text.removeAll()
    arguments.removeAll(from: 0)
    var start = 0
    while let word = Self.word(at: start, in: words) {
      unsafe arguments.append(text.end)
      words.bytes.withElements(word) { Template.expand($0, for: knock, into: &text) }
      text.append(byte: 0)
      start = word.upperBound + 1
    }
  }

  /// The range of the word that begins at `start`, without its NUL; nil after the last.
  private static func word(
    at start: Int, in words: borrowing StorageText
  ) -> Range<Int>? {
    guard start < words.count else { return nil }
    var end = start
    while words.bytes[end] != 0 { end += 1 }
    return start..<end
  }
}

extension CommandTemplate.Failure {
  /// What is wrong, after the name of the command.
  var reason: Literal {
    switch self {
    case .words(.trailingBackslash): "ends with a backslash that quotes nothing"
    case .words(.unclosedQuote(UInt8(ascii: "'"))): "the quote ' is not closed"
    case .words(.unclosedQuote): "the quote \" is not closed"
    case .wordTooLong: "a word may become longer than 131071 bytes, the limit of the kernel"
    case .outOfMemory: "out of memory"
    }
  }
}
