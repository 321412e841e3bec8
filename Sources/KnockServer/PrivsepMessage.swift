import KnockBase
import KnockProtocol

/// All messages between the two processes of the server. The first byte says which one it is:
///
///     byte  message       sender    size               content
///     1     ready         receiver  1
///     2     knock         receiver  61                 see below
///     3     key           executor  1 + expanded key   the expanded key, as the MAC has it in memory
///     4     update tally  executor  1
///
/// A knock:
///
///     offset  size  field
///     1       2     user number, little-endian
///     3       1     command: 1 open, 2 close
///     4       1     size of the address: 4 or 16
///     5       16    address in network order, then zeros
///     21      40    what is remembered of the datagram, see `Fingerprint`
public enum PrivsepMessage: Equatable, Sendable {
  /// The receiver has dropped its privileges and reads datagrams. Sent once, and only if a service manager waits for it.
  case ready
  /// The receiver has accepted a knock of a user.
  case knock(Knock, user: UserNumber, Fingerprint)
  /// The key has changed. Its bytes are not part of the value, so that no copy of them is left behind.
  case key
  /// The executor is about to show the counters, and only the receiver can ask the socket.
  case updateTally

  private enum Kind: UInt8 {
    case ready = 1
    case knock, key, updateTally
  }

  private static let fingerprintOffset = 21
  public static let knockSize = fingerprintOffset + Fingerprint.size
  /// Where the bytes of a key begin.
  public static let keyOffset = 1

  /// Calls `body` with the bytes of the message, without those of a key.
  public func withBytes<Result, Failure: Error>(
    _ body: (Span<UInt8>) throws(Failure) -> Result
  ) throws(Failure) -> Result {
    var bytes = InlineArray<61, UInt8>(repeating: 0)
    switch self {
    case .ready:
      bytes[0] = Kind.ready.rawValue
      return try body(bytes.span.extracting(first: 1))
    case .knock(let knock, let user, let fingerprint):
      let address = knock.address.networkBytes
      bytes[0] = Kind.knock.rawValue
      bytes[1] = UInt8(truncatingIfNeeded: user)
      bytes[2] = UInt8(truncatingIfNeeded: user >> 8)
      bytes[3] = knock.command.rawValue
      bytes[4] = UInt8(knock.address.family.byteCount)
      for index in address.indices { bytes[5 + index] = address[index] }
      var rest = bytes.mutableSpan
      fingerprint.write(to: &rest, at: Self.fingerprintOffset)
      return try body(bytes.span)
    case .key:
      bytes[0] = Kind.key.rawValue
      return try body(bytes.span.extracting(first: Self.keyOffset))
    case .updateTally:
      bytes[0] = Kind.updateTally.rawValue
      return try body(bytes.span.extracting(first: 1))
    }
  }

  /// Reads a message. An attacker may have taken over its sender, so it is trusted no more than a client with the key.
  ///
  /// - Parameter keySize: the size of an expanded key in bytes.
  /// - Returns: nil if the bytes are not exactly one message.
  public init?(_ bytes: Span<UInt8>, keySize: Int) {
    guard bytes.count > 0 else { return nil }
    switch Kind(rawValue: bytes[0]) {
    case .ready where bytes.count == 1: self = .ready
    case .knock where bytes.count == Self.knockSize:
      guard let knock = Knock(message: bytes) else { return nil }
      self = .knock(
        knock, user: UserNumber(bytes[1]) | UserNumber(bytes[2]) << 8,
        Fingerprint(message: bytes.extracting(Self.fingerprintOffset...)))
    case .key where bytes.count == Self.keyOffset + keySize: self = .key
    case .updateTally where bytes.count == 1: self = .updateTally
    case .ready, .knock, .key, .updateTally, nil: return nil
    }
  }
}

extension Knock {
  /// The knock in a message that has the right size. Nil if no knock can be accepted that says this.
  fileprivate init?(message: Span<UInt8>) {
    guard let command = Command(rawValue: message[3]), message[4] == 4 || message[4] == 16 else {
      return nil
    }
    let bytes = message.extracting(5..<21)
    let count = Int(message[4])
    for index in count..<16 where bytes[index] != 0 { return nil }
    guard let address = Address(networkBytes: bytes.extracting(first: count)),
      address.family.byteCount == count, address.refusal == nil
    else { return nil }
    self.init(command: command, address: address)
  }
}
