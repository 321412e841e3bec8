import CSystem
import KnockProtocol

/// The files with what is known about hosts: `$XDG_CONFIG_HOME/pyknock/client.conf` (or that in `~/.config`),
/// and then `/etc/pyknock/client.conf`.
///
/// Each line is a `ConfigLine`. What stands behind `Host NAME...` is for these names, `*` for all, as is what
/// stands before the first one; the first value for a name counts. What is read stays in memory, since the
/// settings point to it.
enum ClientConfiguration {
  private static let pathLimit = 4096
  /// Of a file, in bytes.
  private static let sizeLimit = 65_536

  /// Takes what the files say about a name. False, with a report, where one is of no use.
  static func apply(
    _ name: Argument, to settings: inout ClientSettings, _ report: Report
  ) -> Bool {
    var isMeant = true
    return readAll(report) { keyword, value in
      guard let keyword else {
        isMeant = true
        return
      }
      if keyword == .host {
        isMeant = value.withBytes { hosts in name.withBytes { hosts.holdsWord($0) } }
      } else if isMeant {
        settings.take(keyword, keyword == .keyFile ? expandHome(value) : value)
      }
    }
  }

  /// Prints each name that the files have.
  static func list(_ report: Report, to output: inout FileText) -> Bool {
    readAll(report) { keyword, value in
      guard keyword == .host else { return }
      value.withBytes { hosts in
        hosts.visitWords { word in
          guard !word.equals("*") else { return }
          output.append(word)
          output.append("\n")
        }
      }
    }
  }

  /// Reads both files, where they are.
  ///
  /// - Parameter visit: called with each line; without a keyword where a file begins.
  private static func readAll(
    _ report: Report, _ visit: (ClientKeyword?, Argument) -> Void
  ) -> Bool {
    guard let first = Storage<UInt8>.mapped(pathLimit),
      let second = Storage<UInt8>.mapped(pathLimit)
    else { return false }
    var path = StorageText(first)
    if let folder = variable("XDG_CONFIG_HOME") {
      folder.withBytes { path.append($0) }
    } else if let home = variable("HOME") {
      home.withBytes { path.append($0) }
      path.append("/.config")
    }
    path.append("/pyknock/client.conf\0")
    guard read(path, report, visit) else { return false }
    path = StorageText(second)
    path.append("/etc/pyknock/client.conf\0")
    return read(path, report, visit)
  }

  /// Reads a file, if it is there.
  private static func read(
    _ path: borrowing StorageText, _ report: Report, _ visit: (ClientKeyword?, Argument) -> Void
  ) -> Bool {
    guard let start = unsafe path.start, let text = Storage<UInt8>.mapped(sizeLimit + 1),
      let base = unsafe text.baseAddress
    else { return false }
    let name = unsafe Argument(start)
    do throws(SystemError) {
      let result = unsafe csys_open_configuration(name.pointer)
      if result == -ENOENT || result == -ENOTDIR { return true }
      let file = Descriptor(owning: try SystemError.check(result))
      var count = 0
      while count < text.count {
        let piece = Int(
          try SystemError.check(unsafe csys_read(file.number, base + count, text.count - count)))
        if piece == 0 { break }
        count += piece
      }
      guard count <= sizeLimit else { throw SystemError(number: EFBIG) }
      visit(nil, name)
      return readLines(of: text, count, name, report, visit)
    } catch {
      var line = report.line()
      line.append(quoted: name)
      line.append(": ")
      line.append(error)
      if error.number == EACCES {
        line.append(" (it must belong to us or root, and only its owner may write to it)")
      }
      report.write(line)
      return false
    }
  }

  private static func readLines(
    of text: borrowing Storage<UInt8>, _ count: Int, _ name: Argument, _ report: Report,
    _ visit: (ClientKeyword?, Argument) -> Void
  ) -> Bool {
    var number = 1
    var start = 0
    for index in 0...count where index == count || text[index] == UInt8(ascii: "\n") {
      guard readLine(of: text, start..<index, name, number, report, visit) else { return false }
      start = index + 1
      number += 1
    }
    return true
  }

  private static func readLine(
    of text: borrowing Storage<UInt8>, _ range: Range<Int>, _ name: Argument, _ number: Int,
    _ report: Report, _ visit: (ClientKeyword?, Argument) -> Void
  ) -> Bool {
    func write(_ describe: (inout Line) -> Void) -> Bool {
      var line = report.line()
      name.withBytes { line.append($0) }
      line.append(":")
      line.append(number)
      line.append(": ")
      describe(&line)
      report.write(line)
      return false
    }
    do throws(ConfigLine.Failure) {
      let parsed = try text.withElements(range) { bytes throws(ConfigLine.Failure) in
        try ConfigLine(bytes)
      }
      guard !parsed.keyword.isEmpty else { return true }
      let word =
        range.lowerBound + parsed.keyword.lowerBound..<range.lowerBound + parsed.keyword.upperBound
      guard let keyword = text.withElements(word, { ClientKeyword($0) }) else {
        return write { line in
          text.withElements(word) { line.append(quoted: $0) }
          line.append(
            " is not Host, HostName, Port, KeyFile, Sign, Stun, Family or WaitPort")
        }
      }
      // It is a string from here on: its end is in this line, or the end of the line.
      text[range.lowerBound + parsed.value.upperBound] = 0
      guard let base = unsafe text.baseAddress else { return false }
      let value = unsafe Argument(
        UnsafeMutableRawPointer(base + range.lowerBound + parsed.value.lowerBound)
          .assumingMemoryBound(to: CChar.self))
      if let accepted = keyword.refusal(of: value) {
        return write { line in
          line.append(keyword.name)
          line.append(": ")
          line.append(quoted: value)
          line.append(" is not ")
          line.append(accepted)
        }
      }
      visit(keyword, value)
      return true
    } catch {
      return write { line in
        switch error {
        case .noValue: line.append("a keyword without a value")
        case .openQuote: line.append("a quote that is not closed")
        case .holdsNUL: line.append("a NUL in the line")
        }
      }
    }
  }

  /// `~/` at its start stands for the home directory.
  private static func expandHome(_ value: Argument) -> Argument {
    guard value.withBytes({ $0.hasPrefix("~/") }), let home = variable("HOME"),
      let memory = Storage<UInt8>.mapped(home.count + value.count)
    else { return value }
    var path = StorageText(memory)
    home.withBytes { path.append($0) }
    value.withBytes { path.append($0.extracting(1...)) }
    guard let start = unsafe path.start else { return value }
    return unsafe Argument(start)
  }

  /// A variable of the environment that is not empty.
  private static func variable(_ name: StaticString) -> Argument? {
    guard
      let value = unsafe getenv(
        UnsafeRawPointer(name.utf8Start).assumingMemoryBound(to: CChar.self))
    else { return nil }
    return unsafe Argument(value).nonempty
  }
}
