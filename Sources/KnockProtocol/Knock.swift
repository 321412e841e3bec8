import KnockBase

/// What a client can ask for.
public enum Command: UInt8, BitwiseCopyable, Sendable {
  case open = 1
  case close = 2

  /// The value of `$cmd` in templates.
  public var name: Literal {
    switch self {
    case .open: "open"
    case .close: "close"
    }
  }
}

/// A request to open or close access for an address.
public struct Knock: Equatable, BitwiseCopyable, Sendable {
  public let command: Command
  public let address: Address

  public init(command: Command, address: Address) {
    self.command = command
    self.address = address
  }
}

extension TextSink where Self: ~Copyable {
  /// `open 192.0.2.1`.
  public mutating func append(_ knock: Knock) {
    append(knock.command.name)
    append(" ")
    append(knock.address)
  }
}
