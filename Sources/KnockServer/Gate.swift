import KnockBase
import KnockProtocol

/// Decides on each datagram: the one path from bytes off the network to a knock to act on.
///
/// The order is the order of trust. Nothing in a datagram is looked at before its MAC is verified;
/// nothing is remembered that would not be acted on; what is acted on is remembered first.
///
/// 1. The length is exactly that of one of the two kinds of datagram.
/// 2. The MAC over the raw bytes is right.
/// 3. The bytes parse into a well-formed knock.
/// 4. Its time stamp is within the drift of our clock.
/// 5. Its address, or that of its sender where it leaves the choice to us and we may, is one that a host
///    can have, of a family that there is a set for.
/// 6. There is room in the queue.
/// 7. It was not accepted before, and there is room to remember it.
public struct Gate<Key: MAC & ~Copyable>: ~Copyable {
  public let key: Key
  /// The greatest clock skew that is allowed: microseconds, 1 to `Microseconds.longest`.
  public let drift: Int64
  private let families: AddressFamilies
  /// Whether a knock for the unspecified address is one for the address that it came from.
  private let allowsObservedSource: Bool
  private var replays: ReplayMemory

  /// - Parameter families: those that can be acted on.
  public init(
    key: consuming Key, drift: Int64, families: AddressFamilies,
    allowsObservedSource: Bool, replays: consuming ReplayMemory
  ) {
    self.key = key
    self.drift = drift
    self.families = families
    self.allowsObservedSource = allowsObservedSource
    self.replays = replays
  }

  /// - Parameters:
  ///   - now: our clock, in microseconds since the Unix epoch.
  ///   - hasRoom: whether the knock can be queued.
  ///   - source: the address that the datagram came from, asked for where it matters.
  /// - Throws: the first reason for which the datagram is not to be acted on.
  public mutating func admit(
    _ datagram: Span<UInt8>, now: Int64, hasRoom: Bool, source: () -> Address?
  ) throws(Refusal) -> Knock {
    guard Packet.isSize(datagram.count) else { throw .wrongLength }
    let tag = datagram.extracting(first: Packet.macSize)
    guard key.verify(tag, of: datagram.extracting(Packet.macSize...)) else { throw .badMAC }
    var knock = try Knock(parsing: datagram)
    guard let timeStamp = Packet.fields(of: datagram).timeStamp,
      timeStamp.subtractingSaturated(now).magnitude <= drift.magnitude
    else { throw .stale }
    if allowsObservedSource, knock.address.refusal == .unspecifiedAddress, let source = source() {
      knock = Knock(command: knock.command, address: source)
    }
    if let refusal = knock.address.refusal { throw refusal }
    guard families.contains(knock.address.family) else { throw .noSetForFamily }
    guard hasRoom else { throw .queueFull }
    try replays.remember(tag, timeStamp: timeStamp, now: now, drift: drift)
    return knock
  }

  /// To be called now and then with our clock, in microseconds since the Unix epoch.
  public mutating func noteTime(_ now: Int64) { replays.noteTime(now) }
}
