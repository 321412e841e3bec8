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
/// 5. Its address is one that a host can have. If the address is unspecified and the policy of the user allows it, the
///    source of the datagram takes its place first.
/// 6. The policy of the user allows it.
/// 7. There is room in the queue.
/// 8. It was not accepted before, and there is room to remember it: with several users, in the share of this one.
public struct Gate<Keys: MACKeys & ~Copyable>: ~Copyable {
  public var keys: Keys
  public var users: Users
  /// The greatest clock skew that is allowed: microseconds, 1 to `Microseconds.longest`.
  public let drift: Int64
  private var replays: ReplayMemory

  public init(
    keys: consuming Keys, users: consuming Users, drift: Int64, replays: consuming ReplayMemory
  ) {
    self.keys = keys
    self.users = users
    self.drift = drift
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
    // A key without a user opens nothing.
    guard let slot = keys.slot(verifying: mac, of: datagram.extracting(Version1.macSize...)),
      let user = users[slot]
    else { return .unauthentic(.badMAC) }
    let fields = Version1.fields(of: datagram)
    let clockSkew = fields.timeStamp?.subtractingSaturated(moment.wall)
    var header = Verdict.Header(
      user: user, command: fields.command, family: fields.family,
      length: datagram.count, clockSkew: clockSkew)
    do throws(Refusal) {
      var knock = try Knock(parsing: datagram)
      header.knock = knock
      guard let timeStamp = fields.timeStamp, let clockSkew,
        clockSkew.magnitude <= drift.magnitude
      else { throw .stale }
      let source = source()
      if user.policy.allowsObservedSource, knock.address.refusal == .unspecifiedAddress,
        let source
      {
        knock = Knock(command: knock.command, address: source)
      }
      if let refusal = knock.address.refusal { throw refusal }
      header.knock = knock
      if let refusal = user.refusal(of: knock, from: source, wallNow: moment.wall) {
        throw refusal
      }
      guard hasRoom else { throw .queueFull }
      let fingerprint = Fingerprint(mac: mac, timeStamp: timeStamp)
      try replays.remember(
        fingerprint, of: users.count > 1 ? user.number : nil, at: moment, drift: drift)
      return .accepted(knock, by: user, clockSkew: clockSkew, fingerprint)
    } catch {
      return .refused(error, header)
    }
  }
}
