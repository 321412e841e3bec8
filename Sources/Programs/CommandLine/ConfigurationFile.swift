import CSystem
import KnockBase

/// A file of which each line is a `ConfigLine`. What is read stays in memory, since settings point to it.
enum ConfigurationFile {
  /// Reads a file, and reports what is wrong with it.
  ///
  /// - Parameters:
  ///   - isOptional: whether it need not be there.
  ///   - mayName: whether its path is no key, even if there is no such file.
  ///   - take: gets the keyword and the value of each line. Where it does not accept them, it writes why to the line
  ///     for the log, and returns false.
  /// - Returns: whether all of it was accepted.
  @inline(never)
  static func read(
    _ path: Argument, isOptional: Bool, mayName: Bool, _ report: Report,
    _ take: (Argument, Argument, inout Line) -> Bool
  ) -> Bool {
    do throws(SystemError) {
      let file = try TextFile(ours: path)
      var number = 0
      return file.visitLines { range in
        number += 1
        var line = Line(.error)
        path.withBytes { line.append($0) }
        line.append(":")
        line.append(number)
        line.append(": ")
        guard !read(range, of: file, &line, take) else { return true }
        report.write(line)
        return false
      }
    } catch {
      let isThere =
        error.number != ENOENT && error.number != ENOTDIR && error.number != ENAMETOOLONG
      if isOptional, !isThere { return true }
      var line = Line(.error)
      if isThere || mayName {
        line.append(quoted: path)
      } else {
        line.append("configuration file (not shown, it may be the key)")
      }
      line.append(": ")
      line.append(error)
      if error.number == EACCES {
        line.append(" (it must belong to us or root, and only its owner may write to it)")
      }
      report.write(line)
      return false
    }
  }

  private static func read(
    _ range: Range<Int>, of file: borrowing TextFile, _ complaint: inout Line,
    _ take: (Argument, Argument, inout Line) -> Bool
  ) -> Bool {
    do throws(ConfigLine.Failure) {
      let line = try file.bytes.withElements(range) { bytes throws(ConfigLine.Failure) in
        try ConfigLine(bytes)
      }
      guard !line.keyword.isEmpty else { return true }
      let start = range.lowerBound
      return take(
        file.string(start + line.keyword.lowerBound..<start + line.keyword.upperBound),
        file.string(start + line.value.lowerBound..<start + line.value.upperBound), &complaint)
    } catch {
      switch error {
      case .noValue: complaint.append("a keyword without a value")
      case .openQuote: complaint.append("a quote that is not closed")
      case .innerQuote: complaint.append("a quote inside quotes: leave out the outer ones")
      case .holdsNUL: complaint.append("a NUL in the line")
      }
      return false
    }
  }
}
