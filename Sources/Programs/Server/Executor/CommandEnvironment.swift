import KnockBase
import KnockProtocol
import KnockServer

/// The environment of the commands: that of the server, and PYKNOCK_IP, PYKNOCK_AF, PYKNOCK_CMD and PYKNOCK_USER.
struct CommandEnvironment: ~Copyable {
  /// The four variables, each followed by a NUL byte.
  private var text: StorageText
  /// The inherited variables, then the four.
  private(set) var variables: StringList
  private let inheritedCount: Int

  /// Nil if out of memory.
  init?() {
    let inherited = ArgumentList.environment()
    guard let text = Storage<UInt8>.mapped(192),
      var variables = StringList(capacity: inherited.count + 4)
    else { return nil }
    for index in 0..<inherited.count {
      if let variable = inherited[index], !Self.isOwn(variable) {
        unsafe variables.append(variable.pointer)
      }
    }
    self.text = StorageText(text)
    inheritedCount = variables.count
    self.variables = variables
  }

  mutating func set(_ knock: Knock, by user: UserName) {
    text.removeAll()
    variables.removeAll(from: inheritedCount)
    begin("PYKNOCK_IP=")
    text.append(knock.address)
    text.append(byte: 0)
    begin("PYKNOCK_AF=")
    text.append(knock.address.family.name)
    text.append(byte: 0)
    begin("PYKNOCK_CMD=")
    text.append(knock.command.name)
    text.append(byte: 0)
    begin("PYKNOCK_USER=")
    text.append(user)
    text.append(byte: 0)
  }

  private mutating func begin(_ name: Literal) {
    unsafe variables.append(text.end)
    text.append(name)
  }

  private static func isOwn(_ variable: Argument) -> Bool {
    variable.withBytes { variable in
      variable.hasPrefix("PYKNOCK_IP=") || variable.hasPrefix("PYKNOCK_AF=")
        || variable.hasPrefix("PYKNOCK_CMD=") || variable.hasPrefix("PYKNOCK_USER=")
        || ServiceManager.owns(variable)
    }
  }
}
