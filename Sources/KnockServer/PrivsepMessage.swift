import KnockBase
import KnockProtocol

/// All messages between the two processes of the server. The first byte says which one it is:
///
///     byte  message       sender    size                 content
///     1     ready         receiver  1
///     2     knock         receiver  80                   see below
///     3     user          executor  1 + user and key     as they are in memory
///     4     update tally  executor  1
///     5     remove user   executor  5                    user number, little-endian
///     6     users told    both      1
///
/// A knock:
///
///     offset  size  field
///     1       4     user number, little-endian
///     5       1     command: 1 open, 2 close
///     6       17    address: 1 byte for its size, 4 or 16; 16 bytes in network order, then zeros
///     23      17    the source of the datagram, likewise; all zero if it is no host's
///     40      40    what is remembered of the datagram, see `Fingerprint`
public enum PrivsepMessage: Equatable, Sendable {
  /// The receiver has dropped its privileges and reads datagrams. Sent once, and only if a service manager waits for it.
  case ready
  /// The receiver has accepted a knock of a user.
  case knock(Knock, user: UserNumber, source: Address?, Fingerprint)
  /// A user is new or has changed. The bytes are not part of the value, so that no copy of the key is left behind.
  case user
  /// The executor is about to show the counters, and only the receiver can ask the socket.
  case updateTally
  /// A user is gone.
  case removeUser(UserNumber)
  /// The executor has told all changes of users. The receiver answers with the same when it has taken them.
  case usersTold

  private enum Kind: UInt8 {
    case ready = 1
    case knock, user, updateTally, removeUser, usersTold
  }

  private static let commandOffset = 5
  private static let addressOffset = 6
  private static let sourceOffset = 23
  private static let fingerprintOffset = 40
  public static let knockSize = fingerprintOffset + Fingerprint.size
  /// Where the bytes of a user begin.
  public static let userOffset = 1

  /// Calls `body` with the bytes of the message, without those of a user.
  public func withBytes<Result, Failure: Error>(
    _ body: (Span<UInt8>) throws(Failure) -> Result
  ) throws(Failure) -> Result {
    var bytes = InlineArray<80, UInt8>(repeating: 0)
    var size = 1
    switch self {
    case .ready: bytes[0] = Kind.ready.rawValue
    case .knock(let knock, let user, let source, let fingerprint):
      size = Self.knockSize
      bytes[0] = Kind.knock.rawValue
      bytes[Self.commandOffset] = knock.command.rawValue
      var rest = bytes.mutableSpan
      Self.write(user, to: &rest)
      Self.write(knock.address, to: &rest, at: Self.addressOffset)
      if let source { Self.write(source, to: &rest, at: Self.sourceOffset) }
      fingerprint.write(to: &rest, at: Self.fingerprintOffset)
    case .user: bytes[0] = Kind.user.rawValue
    case .updateTally: bytes[0] = Kind.updateTally.rawValue
    case .removeUser(let user):
      size = 5
      bytes[0] = Kind.removeUser.rawValue
      var rest = bytes.mutableSpan
      Self.write(user, to: &rest)
    case .usersTold: bytes[0] = Kind.usersTold.rawValue
    }
    return try body(bytes.span.extracting(first: size))
  }

  private static func write(_ user: UserNumber, to bytes: inout MutableSpan<UInt8>) {
    for index in 0..<4 { bytes[1 + index] = UInt8(truncatingIfNeeded: user >> UInt32(8 * index)) }
  }

  private static func write(
    _ address: Address, to bytes: inout MutableSpan<UInt8>, at start: Int
  ) {
    let networkBytes = address.networkBytes
    bytes[start] = UInt8(address.family.byteCount)
    for index in networkBytes.indices { bytes[start + 1 + index] = networkBytes[index] }
  }

  /// Reads a message. An attacker may have taken over its sender, so it is trusted no more than a client with the key.
  ///
  /// - Parameter userSize: the size of a user with an expanded key in bytes.
  /// - Returns: nil if the bytes are not exactly one message.
  public init?(_ bytes: Span<UInt8>, userSize: Int) {
    guard bytes.count > 0 else { return nil }
    switch Kind(rawValue: bytes[0]) {
    case .ready where bytes.count == 1: self = .ready
    case .knock where bytes.count == Self.knockSize:
      let source = bytes.extracting(Self.sourceOffset..<Self.fingerprintOffset)
      guard let command = Command(rawValue: bytes[Self.commandOffset]),
        let address = Address(
          message: bytes.extracting(Self.addressOffset..<Self.sourceOffset)),
        source.isZero || Address(message: source) != nil
      else { return nil }
      self = .knock(
        Knock(command: command, address: address), user: Self.user(in: bytes),
        source: Address(message: source),
        Fingerprint(message: bytes.extracting(Self.fingerprintOffset...)))
    case .user where bytes.count == Self.userOffset + userSize: self = .user
    case .updateTally where bytes.count == 1: self = .updateTally
    case .removeUser where bytes.count == 5: self = .removeUser(Self.user(in: bytes))
    case .usersTold where bytes.count == 1: self = .usersTold
    case .ready, .knock, .user, .updateTally, .removeUser, .usersTold, nil: return nil
    }
  }

  private static func user(in bytes: Span<UInt8>) -> UserNumber {
    UserNumber(bytes.littleEndian(at: 1, count: 4))
  }
}

extension Address {
  /// The address in a message: 17 bytes. Nil if no knock can be accepted for it.
  fileprivate init?(message: Span<UInt8>) {
    let count = Int(message[0])
    guard count == 4 || count == 16, message.extracting((1 + count)...).isZero,
      let address = Address(networkBytes: message.extracting(1..<1 + count)),
      address.family.byteCount == count, address.refusal == nil
    else { return nil }
    self = address
  }
}

extension Span<UInt8> {
  fileprivate var isZero: Bool {
    for index in indices where self[index] != 0 { return false }
    return true
  }
}
