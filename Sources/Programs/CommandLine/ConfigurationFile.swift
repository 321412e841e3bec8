import KnockBase

/// The words that can begin a line of a configuration file: an enum whose raw values count from 0.
protocol ConfigurationKeyword: RawRepresentable where RawValue == UInt8 {
  var name: Literal { get }
  /// Whether the file may have it.
  var isKeyword: Bool { get }
}

/// A file whose lines are `ConfigLine`s. Its text stays in memory, because settings point to it.
enum ConfigurationFile<Keyword: ConfigurationKeyword> {
  /// Reads a file.
  ///
  /// - Parameters:
  ///   - isGiven: whether the command line names the file. Then it must exist, and may be the key.
  ///   - take: is called with the keyword and the value of each line.
  static func read(
    _ path: Argument, isGiven: Bool, _ take: (Keyword, Argument) throws(Misuse) -> Void
  ) throws(ConfigurationError<Keyword>) {
    do throws(ConfigurationFailure) {
      try visitLines(of: path, isGiven: isGiven) {
        word, value throws(ConfigurationFailure.Line) in
        var nearest = NearestName()
        guard let keyword = keyword(word, &nearest) else {
          throw .unknownKeyword(word, meant: nearest.name)
        }
        do throws(Misuse) { try take(keyword, value) } catch { throw .misuse(error) }
      }
    } catch { throw ConfigurationError(failure: error) }
  }

  /// A keyword, in upper or lower case. Looks for the nearest as well.
  private static func keyword(_ word: Argument, _ nearest: inout NearestName) -> Keyword? {
    word.withBytes { word in
      Cases.first {
        if $0.isKeyword { nearest.consider($0.name, for: word) }
        return nearest.isSame
      }
    }
  }
}

/// Calls `take` with the keyword and the value of each line of a file.
@inline(never)
private func visitLines(
  of path: Argument, isGiven: Bool,
  _ take: (Argument, Argument) throws(ConfigurationFailure.Line) -> Void
) throws(ConfigurationFailure) {
  guard let file = try open(path, isGiven: isGiven) else { return }
  var number = 0
  // A file without any keyword may be the key, so its first word is not shown.
  var mayBeKey = isGiven
  var failure: ConfigurationFailure?
  _ = file.visitLines { range in
    number += 1
    do throws(ConfigurationFailure.Line) {
      try visitLine(range, of: file) { word, value throws(ConfigurationFailure.Line) in
        try take(word, value)
        mayBeKey = false
      }
      return true
    } catch {
      failure = .line(path, number, mayBeKey ? error.withoutWord : error)
      return false
    }
  }
  if let failure { throw failure }
}

extension ConfigurationFailure.Line {
  fileprivate var withoutWord: Self {
    switch self {
    case .syntax(.noValue), .unknownKeyword: .perhapsKey
    default: self
    }
  }
}

private func open(
  _ path: Argument, isGiven: Bool
) throws(ConfigurationFailure) -> TextFile? {
  do throws(SystemError) {
    return try TextFile(private: path)
  } catch {
    switch error {
    case .notFound, .notADirectory:
      if !isGiven { return nil }
      throw .notFound(path, error)
    case .nameTooLong: throw .notFound(path, error)
    default: throw .cannotRead(path, error)
    }
  }
}

/// Calls `take` with the keyword and the value of a line, unless it is blank or a comment.
@inline(never)
func visitLine(
  _ range: Range<Int>, of file: borrowing TextFile,
  _ take: (Argument, Argument) throws(ConfigurationFailure.Line) -> Void
) throws(ConfigurationFailure.Line) {
  let line: ConfigLine
  do throws(ConfigLine.Failure) {
    line = try file.bytes.withElements(range) { bytes throws(ConfigLine.Failure) in
      try ConfigLine(bytes)
    }
  } catch { throw .syntax(error) }
  guard !line.keyword.isEmpty else { return }
  let start = range.lowerBound
  try take(
    file.string(start + line.keyword.lowerBound..<start + line.keyword.upperBound),
    file.string(start + line.value.lowerBound..<start + line.value.upperBound))
}
