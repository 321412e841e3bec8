import KnockBase
import KnockProtocol

/// All messages between the two processes of the server. The first byte says which one it is:
///
///     byte  message       sender    size                 content
///     1     ready         receiver  1
///     2     knock         receiver  134                  see below
///     3     user          executor  1 + user and key     as they are in memory
///     4     update tally  executor  1
///     5     remove user   executor  5                    user number, little-endian
///     6     users told    both      1
///
/// A knock:
///
///     offset  size  field
///     1       4     user number, little-endian
///     5       1     command: 1 open, 2 close, 3 check
///     6       1     0 accepted; otherwise the result that the answer has, see `Order.Refused`
///     7       1     1 if an answer is wanted
///     8       4     seconds that the address shall stay open at most, little-endian; 0 leaves that to the server
///     12      17    address: 1 byte for its size, 4 or 16; 16 bytes in network order, then zeros
///     29      17    the source of the datagram, likewise; all zero if it is no host's
///     46      48    the way of an answer, see `ReplyPath`; all zero if none is wanted
///     94      40    what is remembered of the datagram, see `Fingerprint`
public enum PrivsepMessage: Equatable, Sendable {
  /// The receiver has dropped its privileges and reads datagrams. Sent once, and only if a service manager waits for it.
  case ready
  /// The receiver has accepted a knock of a user, or refused it with an answer.
  case knock(Order)
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
  private static let check: UInt8 = 3
  private static let refusalOffset = 6
  private static let wantsAnswerOffset = 7
  private static let secondsOffset = 8
  private static let addressOffset = 12
  private static let sourceOffset = 29
  private static let replyOffset = 46
  private static let fingerprintOffset = replyOffset + ReplyPath.size
  public static let knockSize = fingerprintOffset + Fingerprint.size
  /// Where the bytes of a user begin.
  public static let userOffset = 1

  /// Calls `body` with the bytes of the message, without those of a user.
  public func withBytes<Result, Failure: Error>(
    _ body: (Span<UInt8>) throws(Failure) -> Result
  ) throws(Failure) -> Result {
    var bytes = InlineArray<134, UInt8>(repeating: 0)
    var size = 1
    switch self {
    case .ready: bytes[0] = Kind.ready.rawValue
    case .knock(let order):
      size = Self.knockSize
      bytes[0] = Kind.knock.rawValue
      bytes[Self.commandOffset] = order.isCheck ? Self.check : order.knock.command.rawValue
      bytes[Self.refusalOffset] = order.refusal?.rawValue ?? 0
      var rest = bytes.mutableSpan
      Self.write(order.user, to: &rest, at: 1)
      Self.write(order.seconds, to: &rest, at: Self.secondsOffset)
      Self.write(order.knock.address, to: &rest, at: Self.addressOffset)
      if let source = order.source { Self.write(source, to: &rest, at: Self.sourceOffset) }
      if let reply = order.reply {
        rest[Self.wantsAnswerOffset] = 1
        reply.write(to: &rest, at: Self.replyOffset)
      }
      order.fingerprint.write(to: &rest, at: Self.fingerprintOffset)
    case .user: bytes[0] = Kind.user.rawValue
    case .updateTally: bytes[0] = Kind.updateTally.rawValue
    case .removeUser(let user):
      size = 5
      bytes[0] = Kind.removeUser.rawValue
      var rest = bytes.mutableSpan
      Self.write(user, to: &rest, at: 1)
    case .usersTold: bytes[0] = Kind.usersTold.rawValue
    }
    return try body(bytes.span.extracting(first: size))
  }

  private static func write(
    _ number: UInt32, to bytes: inout MutableSpan<UInt8>, at start: Int
  ) {
    for index in 0..<4 {
      bytes[start + index] = UInt8(truncatingIfNeeded: number >> UInt32(8 * index))
    }
  }

  @inline(never)
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
      guard let order = Self.order(in: bytes) else { return nil }
      self = .knock(order)
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

  /// Reads a knock. Nil if no receiver that works sends it.
  @inline(never)
  private static func order(in bytes: Span<UInt8>) -> Order? {
    let source = bytes.extracting(sourceOffset..<replyOffset)
    let host = Address(message: source)
    let reply = bytes.extracting(replyOffset..<fingerprintOffset)
    let isCheck = bytes[commandOffset] == check
    let wantsAnswer = bytes[wantsAnswerOffset] == 1
    let seconds = UInt32(bytes.littleEndian(at: secondsOffset, count: 4))
    let refusal = Order.Refused(rawValue: bytes[refusalOffset])
    guard let command = isCheck ? .open : Command(rawValue: bytes[commandOffset]),
      let address = Address(message: bytes.extracting(addressOffset..<sourceOffset)),
      refusal != nil || address.refusal == nil,
      source.isZero || host != nil && host?.refusal == nil,
      wantsAnswer || bytes[wantsAnswerOffset] == 0 && reply.isZero,
      refusal != nil || bytes[refusalOffset] == 0,
      refusal == nil || wantsAnswer,
      seconds == 0 || command == .open && !isCheck
    else { return nil }
    return Order(
      user: user(in: bytes), Knock(command: command, address: address), isCheck: isCheck,
      seconds: seconds, refusal: refusal,
      source: host, reply: wantsAnswer ? ReplyPath(reply) : nil,
      Fingerprint(message: bytes.extracting(fingerprintOffset...)))
  }
}

extension Address {
  /// The address in a message: 17 bytes.
  @inline(never)
  fileprivate init?(message: Span<UInt8>) {
    let count = Int(message[0])
    guard count == 4 || count == 16, message.extracting((1 + count)...).isZero,
      let address = Address(networkBytes: message.extracting(1..<1 + count)),
      address.family.byteCount == count
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
