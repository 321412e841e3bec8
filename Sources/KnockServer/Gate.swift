import KnockBase
import KnockProtocol

/// Decides on each datagram: the one path from bytes off the network to a knock to act on.
///
/// The order of the steps is the order of trust. Nothing in a datagram is read before its MAC is verified.
/// Nothing is remembered that is not acted on, and what is acted on is remembered first.
///
/// 1. The length is exactly that of one of the two kinds of datagram.
/// 2. The MAC over the raw bytes is right. From here on the user is known.
/// 3. The bytes parse into a well-formed knock.
/// 4. Its time stamp differs from our clock by the drift at most.
/// 5. Its address is one that a host can have, of a family that the policy of the user allows. If the
///    address is unspecified and the policy allows it, the source of the datagram takes its place first.
/// 6. There is room in the queue.
/// 7. It was not accepted before, and there is room to remember it.
public struct Gate<Key: MACKey & ~Copyable>: ~Copyable {
  public let key: Key
  /// The greatest clock skew that is allowed: microseconds, 1 to `Microseconds.longest`.
  public let drift: Int64
  private let policies: Policies
  private var replays: ReplayMemory

  public init(
    key: consuming Key, drift: Int64, policies: Policies, replays: consuming ReplayMemory
  ) {
    self.key = key
    self.drift = drift
    self.policies = policies
    self.replays = replays
  }

  /// - Parameters:
  ///   - moment: now, by our clocks.
  ///   - hasRoom: whether the knock can be queued.
  ///   - source: returns the address that the datagram came from. Called only if it matters.
  public mutating func admit(
    _ datagram: Span<UInt8>, at moment: Moment, hasRoom: Bool, source: () -> Address?
  ) -> Verdict {
    guard Version1.isSize(datagram.count) else { return .unauthentic(.wrongLength) }
    let mac = datagram.extracting(first: Version1.macSize)
    let user = Policies.onlyUser
    // A key without a policy opens nothing.
    guard key.verify(mac, of: datagram.extracting(Version1.macSize...)), let policy = policies[user]
    else { return .unauthentic(.badMAC) }
    let fields = Version1.fields(of: datagram)
    let clockSkew = fields.timeStamp?.subtractingSaturated(moment.wall)
    var header = Verdict.Header(
      command: fields.command, family: fields.family, length: datagram.count,
      clockSkew: clockSkew)
    do throws(Refusal) {
      var knock = try Knock(parsing: datagram)
      header.knock = knock
      guard let timeStamp = fields.timeStamp, let clockSkew,
        clockSkew.magnitude <= drift.magnitude
      else { throw .stale }
      if policy.allowsObservedSource, knock.address.refusal == .unspecifiedAddress,
        let source = source()
      {
        knock = Knock(command: knock.command, address: source)
      }
      if let refusal = knock.address.refusal { throw refusal }
      guard policy.families.contains(knock.address.family) else { throw .noSetForFamily }
      guard hasRoom else { throw .queueFull }
      let fingerprint = Fingerprint(mac: mac, timeStamp: timeStamp)
      try replays.remember(fingerprint, at: moment, drift: drift)
      return .accepted(knock, user: user, clockSkew: clockSkew, fingerprint)
    } catch {
      return .refused(error, header)
    }
  }
}
