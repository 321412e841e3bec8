import KnockBase
import KnockProtocol

/// Remembers the MAC of each accepted datagram while its time stamp is fresh, so that the server does not act
/// on a replay.
///
/// A datagram is recognized by its MAC, because nobody without the key can make another MAC for the same
/// request. The memory is bounded and fails closed: when it is full, new datagrams are refused, and nothing is
/// forgotten that could still be replayed. Records are forgotten in the order of their arrival: none before its
/// time stamp + drift has passed, and all within twice the drift. The records form a ring, and a hash table
/// finds them, so the cost does not depend on their number.
///
/// If there are several users, none can fill it: see `share`.
public struct ReplayMemory: ~Copyable {
  private let records: Storage<Fingerprint>
  /// The hash is the first quarter of the MAC.
  private let index: PositionIndex
  /// What each user may still have remembered.
  private let shares: UserBuckets
  private var first = 0
  /// How many datagrams are remembered.
  public private(set) var count = 0
  /// The greatest time stamp that was ever forgotten. While the clock goes forward, nothing up to it is fresh.
  /// After the clock went back such a datagram may be a replay, and is refused.
  private var floor = Int64.min
  /// Set until the first knock is accepted, if an earlier server may have accepted knocks that are not known.
  private var doubt: Doubt?

  /// - Parameters:
  ///   - records: one for each datagram to remember; at least 1, at most 2^30.
  ///   - index: for as many.
  public init(
    records: consuming Storage<Fingerprint>, index: consuming PositionIndex,
    shares: consuming UserBuckets
  ) {
    precondition(records.count >= 1 && index.holds(records.count))
    self.records = records
    self.index = index
    self.shares = shares
  }

  /// How many datagrams of one user are remembered at once; later ones as fast as they are surely forgotten. So one
  /// user never has more than twice as many in the memory, a quarter of it.
  public static func share(of capacity: Int, drift: Int64) -> RateLimit {
    RateLimit(Int64(max(1, capacity / 8)), within: 2 * drift)
  }

  /// Checks that a datagram was not remembered before. Its time stamp is within the drift of `moment`.
  ///
  /// - Throws: `replayed`, `olderThanMemory`.
  mutating func check(_ datagram: Fingerprint, at moment: Moment, drift: Int64) throws(Refusal) {
    guard index.first(hash: datagram.mac0, where: { records[$0].mac == datagram.mac }) == nil else {
      throw .replayed
    }
    forgetStale(time: moment.wall, drift: drift)
    guard datagram.timeStamp > floor else { throw .olderThanMemory }
    if let doubt {
      guard datagram.timeStamp > doubt.floor(at: moment) else { throw .olderThanMemory }
    }
  }

  /// Throws `keyTooFast` if the share of a user has no room for a datagram. `user` is nil if there is only one user, who
  /// has no share.
  @inline(never)
  func checkShare(of user: UserNumber?, at moment: Moment, drift: Int64) throws(Refusal) {
    let limit = Self.share(of: records.count, drift: drift)
    if let user, !shares[user].holds(limit, now: moment.monotonic) { throw .keyTooFast }
  }

  /// Remembers a datagram that has passed `check`, before the server acts on it.
  ///
  /// - Parameter user: the user whose share of the memory is charged; nil if there is only one user.
  /// - Throws: as `checkShare`; `replayMemoryFull`.
  mutating func remember(
    _ datagram: Fingerprint, of user: UserNumber?, at moment: Moment, drift: Int64
  ) throws(Refusal) {
    try checkShare(of: user, at: moment, drift: drift)
    guard append(datagram) else { throw .replayMemoryFull }
    if let user {
      _ = shares[user].take(Self.share(of: records.count, drift: drift), now: moment.monotonic)
    }
    // The knock confirms our clock. So now the floor can be kept as a time by that clock.
    if let doubt {
      floor = max(floor, doubt.floor(at: moment.confirmed(by: datagram.timeStamp)))
    }
    doubt = nil
  }

  /// Adds a datagram at the end of the ring. Returns false if there is no room.
  mutating func append(_ datagram: Fingerprint) -> Bool {
    guard count < records.count else { return false }
    if count == 0 { first = 0 }  // Few knocks then touch few pages.
    let position = (first + count) % records.count
    records[position] = datagram
    count += 1
    index.enter(position, hash: datagram.mac0)
    return true
  }

  /// From now on, refuses what is stamped up to a time (microseconds since the Unix epoch), and what the doubt says.
  mutating func refuse(upTo time: Int64, _ doubt: Doubt?) {
    floor = max(floor, time)
    self.doubt = doubt
  }

  /// Forgets the datagrams that are no longer fresh.
  private mutating func forgetStale(time: Int64, drift: Int64) {
    while count > 0, time.subtractingSaturated(records[first].timeStamp) > drift { forgetFirst() }
  }

  private mutating func forgetFirst() {
    let record = records[first]
    index.leave(first, hash: record.mac0) { records[$0].mac0 }
    floor = max(floor, record.timeStamp)
    first = (first + 1) % records.count
    count -= 1
  }
}
