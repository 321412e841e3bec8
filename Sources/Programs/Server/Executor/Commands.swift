import KnockBase
import KnockProtocol

/// The two commands of the server, with room to expand them for a knock.
struct Commands: ~Copyable {
  private let open: CommandTemplate
  private let close: CommandTemplate
  private var text: StorageText
  private var arguments: StringList

  /// - Throws: `Misuse.unsuitableOperand`.
  @inline(never)
  init(_ settings: ServerSettings, _ operands: Operands) throws(Misuse) {
    let open = try Self.template(operands[0] ?? settings.openCommand, "OPEN_CMD", settings)
    let close = try Self.template(operands[1] ?? settings.closeCommand, "CLOSE_CMD", settings)
    guard
      let text = Storage<UInt8>.mapped(max(1, max(open.longestExpansion, close.longestExpansion))),
      let arguments = StringList(capacity: max(open.wordCount, close.wordCount))
    else { throw .unsuitableOperand("OPEN_CMD", CommandTemplate.Failure.outOfMemory.reason) }
    self.open = open
    self.close = close
    self.text = StorageText(text)
    self.arguments = arguments
  }

  private static func template(
    _ text: Argument?, _ name: Literal, _ settings: ServerSettings
  ) throws(Misuse) -> CommandTemplate {
    do throws(CommandTemplate.Failure) {
      return try CommandTemplate(text ?? .empty, shell: settings.usesShell)
    } catch { throw .unsuitableOperand(name, error.reason) }
  }

  /// Whether neither command has anything to run.
  var isEmpty: Bool { open.wordCount + close.wordCount == 0 }

  var canOpen: Bool { open.wordCount > 0 }

  var canClose: Bool { close.wordCount > 0 }

  /// Why a command cannot run.
  struct Failure: Error {
    let name: Literal
    let program: Argument
    let usesShell: Bool
    let error: SystemError
  }

  /// Checks that the programs of both commands can be run, as far as they are known before a knock.
  func check() throws(Failure) {
    try Self.check(open, "OPEN_CMD")
    try Self.check(close, "CLOSE_CMD")
  }

  private static func check(
    _ command: borrowing CommandTemplate, _ name: Literal
  ) throws(Failure) {
    guard let program = command.fixedProgram else { return }
    do throws(SystemError) {
      try program.checkProgram()
    } catch {
      throw Failure(name: name, program: program, usesShell: command.usesShell, error: error)
    }
  }

  /// Calls `body` with the words of the command for a knock, as execve(2) takes them. An empty command has none.
  mutating func expand<Result, Failure: Error>(
    for knock: Knock, _ body: (borrowing StringList) throws(Failure) -> Result
  ) throws(Failure) -> Result {
    switch knock.command {
    case .open: open.expand(for: knock, into: &text, &arguments)
    case .close: close.expand(for: knock, into: &text, &arguments)
    }
    return try body(arguments)
  }
}

extension Commands.Failure: MessageConvertible {
  var message: Message {
    usesShell
      ? "\(name): cannot run \(quoted: program): \(error); --no-shell runs the commands without it"
      : "\(name): cannot run \(argument: program): \(error)"
  }
}
