import KnockBase
import KnockProtocol

/// Decides on each datagram: the one path from bytes off the network to a knock to act on.
///
/// The order of the steps is the order of trust. Nothing in a datagram is read before its MAC is verified.
/// Nothing is remembered that is not acted on or answered, and what is acted on is remembered first.
///
/// 1. The length is exactly that of a datagram of version 1 or 2, and there is a key of that version.
/// 2. A key of version 2 has the id in it.
/// 3. The MAC is right. From here on the user is known.
/// 4. The bytes parse into a well-formed knock.
/// 5. Its time stamp differs from our clock by the drift at most.
/// 6. It was not accepted before.
/// 7. Its address is one that a host can have. If the address is unspecified and the policy of the user allows it, the
///    source of the datagram takes its place first.
/// 8. With several users, the share of this one has room to remember it. The policy of the user allows it. There is room
///    in the queue.
/// 9. There is room to remember it.
///
/// What 7 and 8 refuse is remembered only if it is answered. An open or close that they refuse for the source of the
/// datagram is not: the same request may be allowed from elsewhere. A check is: a copy that uses it up does no harm.
public struct Gate<Keys: MACKeys & ~Copyable>: ~Copyable {
  public var keys: Keys
  public var users: Users
  /// The greatest clock skew that is allowed: microseconds, 1 to `Microseconds.longest`.
  public let drift: Int64
  private let acceptsVersion1: Bool
  private var replays: ReplayMemory

  public init(
    keys: consuming Keys, users: consuming Users, drift: Int64, acceptsVersion1: Bool = true,
    replays: consuming ReplayMemory
  ) {
    self.keys = keys
    self.users = users
    self.drift = drift
    self.acceptsVersion1 = acceptsVersion1
    self.replays = replays
  }

  /// - Parameters:
  ///   - moment: now, by our clocks.
  ///   - hasRoom: whether the knock can be queued.
  ///   - origin: returns where the datagram came from. Called only if it matters.
  public mutating func admit(
    _ datagram: Span<UInt8>, at moment: Moment, hasRoom: Bool, origin: () -> Origin
  ) -> Verdict {
    if datagram.count == Version2.requestSize {
      return admitVersion2(datagram, at: moment, hasRoom: hasRoom, origin: origin)
    }
    guard Version1.isSize(datagram.count), acceptsVersion1, keys.hasVersion1 else {
      return .unauthentic(.wrongLength)
    }
    let mac = datagram.extracting(first: Version1.macSize)
    // A key without a user opens nothing.
    guard let slot = keys.slot(verifying: mac, of: datagram.extracting(Version1.macSize...)),
      let user = users[slot]
    else { return .unauthentic(.badMAC) }
    let fields = Version1.fields(of: datagram)
    var header = Verdict.Header(
      user: user, command: fields.command, family: fields.family, length: datagram.count,
      clockSkew: fields.timeStamp?.subtractingSaturated(moment.wall))
    let claim: Claim
    do throws(Refusal) {
      let knock = try Knock(parsing: datagram)
      guard let time = fields.timeStamp else { throw .timeNotFinite }
      claim = Claim(
        knock, isUnnamed: knock.address.refusal == .unspecifiedAddress,
        Fingerprint(mac: mac, timeStamp: time))
    } catch {
      return .refused(error, header)
    }
    return verdict(on: claim, &header, at: moment, hasRoom: hasRoom, from: origin())
  }

  @inline(never)
  private mutating func admitVersion2(
    _ request: Span<UInt8>, at moment: Moment, hasRoom: Bool, origin: () -> Origin
  ) -> Verdict {
    guard let id = keys.id(in: request) else { return .unauthentic(.wrongLength) }
    guard let slot = users.slot(withID: id), let user = users[slot] else {
      return .unauthentic(.unknownKey)
    }
    guard let payload = keys.open(request, slot: slot) else { return .unauthentic(.badMAC) }
    let clockSkew = payload.time.subtractingSaturated(moment.wall)
    var header = Verdict.Header(
      user: user, command: payload.code, family: 0, length: request.count, clockSkew: clockSkew)
    var claim: Claim
    do throws(Refusal) {
      let parsed = try Version2.Request(payload)
      // A time in version 2 has no sign. So a clock before 1970 agrees with none.
      guard moment.wall >= 0 else { throw .stale }
      claim = Claim(
        Knock(
          command: parsed.purpose == .close ? .close : .open,
          address: parsed.address ?? .inet6(high: 0, low: 0)),
        isUnnamed: parsed.address == nil,
        Fingerprint(mac: request.extracting(first: Version2.tagSize), timeStamp: parsed.time))
      claim.isCheck = parsed.purpose == .check
      claim.seconds = parsed.seconds
      claim.wantsAnswer = parsed.wantsAnswer
      header.isCheck = claim.isCheck
    } catch {
      return .refused(error, header)
    }
    return verdict(on: claim, &header, at: moment, hasRoom: hasRoom, from: origin())
  }

  /// What a well-formed datagram asks for.
  private struct Claim {
    let knock: Knock
    /// Whether it is for the address that it comes from.
    let isUnnamed: Bool
    let fingerprint: Fingerprint
    var isCheck = false
    var seconds: UInt32 = 0
    var wantsAnswer = false

    init(_ knock: Knock, isUnnamed: Bool, _ fingerprint: Fingerprint) {
      self.knock = knock
      self.isUnnamed = isUnnamed
      self.fingerprint = fingerprint
    }
  }

  /// The steps from 5 on, which are the same for both versions.
  @inline(never)
  private mutating func verdict(
    on claim: Claim, _ header: inout Verdict.Header, at moment: Moment, hasRoom: Bool,
    from origin: Origin
  ) -> Verdict {
    do throws(Refusal) {
      let order = try judge(claim, of: &header, at: moment, hasRoom: hasRoom, from: origin)
      return .accepted(order, by: header.user, clockSkew: header.clockSkew ?? 0)
    } catch {
      return .refused(error, header)
    }
  }

  private mutating func judge(
    _ claim: Claim, of header: inout Verdict.Header, at moment: Moment, hasRoom: Bool,
    from origin: Origin
  ) throws(Refusal) -> Order {
    header.knock = claim.knock
    let time = claim.fingerprint.timeStamp
    guard time.subtractingSaturated(moment.wall).magnitude <= drift.magnitude else {
      throw .stale
    }
    try replays.check(claim.fingerprint, at: moment, drift: drift)
    let user = header.user
    var knock = claim.knock
    var isForSource = false
    if claim.isUnnamed, claim.isCheck || user.policy.allowsObservedSource,
      let source = origin.source
    {
      knock = Knock(command: knock.command, address: source)
      isForSource = true
    }
    let payer = users.count > 1 ? user.number : nil
    var refusal = knock.address.refusal
    if refusal == nil {
      header.knock = knock
      try replays.checkShare(of: payer, at: moment, drift: drift)
      refusal = user.refusal(
        of: knock, from: origin.source, seconds: claim.seconds, wallNow: moment.wall)
      // A copy may come first, from elsewhere. It must not use up what the sender may have.
      if let refusal, !claim.isCheck {
        let isForAddress = user.refusal(
          of: knock, from: knock.address, seconds: claim.seconds, wallNow: moment.wall)
        if isForAddress == nil { throw refusal }
        if isForSource, user.policy.dependsOnAddress(refusal) { throw refusal }
      }
    }
    if refusal == nil, !hasRoom { refusal = .queueFull }
    let reply = claim.wantsAnswer ? origin.reply : nil
    if let refusal, reply == nil { throw refusal }
    do throws(Refusal) {
      try replays.remember(claim.fingerprint, of: payer, at: moment, drift: drift)
    } catch { throw refusal ?? error }
    // The answer names the source, even if that must not replace the address.
    if refusal == .unspecifiedAddress, claim.isUnnamed, let source = origin.source {
      knock = Knock(command: knock.command, address: source)
    }
    let order = Order(
      user: user.number, knock, isCheck: claim.isCheck, seconds: claim.seconds,
      refusal: refusal.map { $0 == .queueFull ? .noRoom : .notAllowed },
      source: origin.source?.refusal == nil ? origin.source : nil, reply: reply,
      claim.fingerprint)
    guard let refusal else { return order }
    header.order = order
    throw refusal
  }
}
