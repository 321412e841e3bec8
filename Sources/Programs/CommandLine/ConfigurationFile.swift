import KnockBase

/// The words that can begin a line of a configuration file: an enum whose raw values count from 0.
protocol ConfigurationKeyword: RawRepresentable where RawValue == UInt8 {
  var name: StaticString { get }
  /// Whether the file may have it.
  var isKeyword: Bool { get }
}

/// A file whose lines are `ConfigLine`s. Its text stays in memory, because settings point to it.
enum ConfigurationFile<Keyword: ConfigurationKeyword> {
  typealias Failure = ConfigurationError<Keyword>

  /// Reads a file.
  ///
  /// - Parameters:
  ///   - isGiven: whether the command line names the file. Then it must exist, and may be the key.
  ///   - take: is called with the keyword and the value of each line.
  @inline(never)
  static func read(
    _ path: Argument, isGiven: Bool, _ take: (Keyword, Argument) throws(Misuse) -> Void
  ) throws(Failure) {
    guard let file = try open(path, isGiven: isGiven) else { return }
    // A file without any known keyword may be the key, so its first word is not shown.
    var showsWords = !isGiven
    var number = 0
    var failure: Failure?
    _ = file.visitLines { range in
      number += 1
      do throws(Failure.Line) {
        guard let line = try line(range, of: file) else { return true }
        guard let keyword = keyword(line.keyword) else {
          throw .unknownKeyword(line.keyword, isShown: showsWords)
        }
        showsWords = true
        do throws(Misuse) {
          try take(keyword, line.value)
        } catch { throw Failure.Line.misuse(error) }
        return true
      } catch {
        failure = .line(path, number, error)
        return false
      }
    }
    if let failure { throw failure }
  }

  private static func open(_ path: Argument, isGiven: Bool) throws(Failure) -> TextFile? {
    do throws(SystemError) {
      return try TextFile(ours: path)
    } catch {
      switch error {
      case .notFound, .notADirectory, .nameTooLong:
        if !isGiven { return nil }
        throw .notFound(path, error)
      default: throw .cannotRead(path, error)
      }
    }
  }

  /// Nil for a line that says nothing.
  private static func line(
    _ range: Range<Int>, of file: borrowing TextFile
  ) throws(Failure.Line) -> (keyword: Argument, value: Argument)? {
    do throws(ConfigLine.Failure) {
      let line = try file.bytes.withElements(range) { bytes throws(ConfigLine.Failure) in
        try ConfigLine(bytes)
      }
      guard !line.keyword.isEmpty else { return nil }
      let start = range.lowerBound
      return (
        file.string(start + line.keyword.lowerBound..<start + line.keyword.upperBound),
        file.string(start + line.value.lowerBound..<start + line.value.upperBound)
      )
    } catch { throw .syntax(error) }
  }

  /// A keyword, in upper or lower case.
  private static func keyword(_ word: Argument) -> Keyword? {
    word.withBytes { word in
      Cases.first { $0.isKeyword && word.equalsIgnoringCase($0.name) }
    }
  }
}
