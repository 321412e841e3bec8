import CSystem
import KnockBase
import KnockProtocol

/// The two commands of the server, with room to expand them for a knock.
struct Commands: ~Copyable {
  private let open: CommandTemplate
  private let close: CommandTemplate
  private var text: StorageText
  private var arguments: StringList

  /// - Throws: `Misuse.command`.
  init(_ settings: ServerSettings, _ operands: Operands) throws(Misuse) {
    let open = try Self.template(operands[0] ?? settings.openCommand, "OPEN_CMD", settings)
    let close = try Self.template(operands[1] ?? settings.closeCommand, "CLOSE_CMD", settings)
    guard
      let text = Storage<UInt8>.mapped(max(1, max(open.longestExpansion, close.longestExpansion))),
      let arguments = StringList(capacity: max(open.wordCount, close.wordCount))
    else { throw .command(name: "OPEN_CMD", .noMemory) }
    self.open = open
    self.close = close
    self.text = StorageText(text)
    self.arguments = arguments
  }

  private static func template(
    _ text: Argument?, _ name: StaticString, _ settings: ServerSettings
  ) throws(Misuse) -> CommandTemplate {
    do throws(CommandTemplate.Failure) {
      return try CommandTemplate(text ?? .empty, shell: settings.usesShell)
    } catch { throw .command(name: name, error) }
  }

  /// Whether there is any.
  var areAny: Bool { open.wordCount + close.wordCount > 0 }

  /// Whether there is one that closes.
  var canClose: Bool { close.wordCount > 0 }

  /// Checks, before the first knock does, that their programs can be run. False, with a report, where one cannot.
  func canRun(_ report: Report, mayQuote: Bool) -> Bool {
    Self.canRun(open, "OPEN_CMD", report, mayQuote: mayQuote)
      && Self.canRun(close, "CLOSE_CMD", report, mayQuote: mayQuote)
  }

  private static func canRun(
    _ command: borrowing CommandTemplate, _ name: StaticString, _ report: Report, mayQuote: Bool
  ) -> Bool {
    let error = command.withFixedProgram { unsafe csys_check_program($0.pointer) }
    guard let error, error < 0 else { return true }
    var line = Line(.error)
    line.append(name)
    line.append(": cannot run ")
    _ = command.withFixedProgram {
      line.append(quoted: $0, if: mayQuote || command.usesShell)
    }
    line.append(": ")
    line.append(SystemError(number: -error))
    if command.usesShell { line.append("; --no-shell runs the commands without it") }
    report.write(line)
    return false
  }

  /// Calls `body` with the words of the command for a knock, as execve(2) takes them; with none where it is empty.
  mutating func expand<Result>(
    for knock: Knock, _ body: (borrowing StringList) -> Result
  ) -> Result {
    switch knock.command {
    case .open: open.expand(for: knock, into: &text, &arguments)
    case .close: close.expand(for: knock, into: &text, &arguments)
    }
    return body(arguments)
  }
}
