import KnockBase
import KnockProtocol

/// The last command of each user for each address that knocked just now. It tells a repeat, which a client sends in
/// case the first datagram was lost, from a new knock. Bounded: if there are more, the oldest are forgotten.
public struct RecentKnocks: ~Copyable {
  /// How long after a knock the same one is a repeat.
  private static let interval = 2 * Microseconds.second

  public struct Entry: BitwiseCopyable {
    /// Nil if a later entry replaces it.
    fileprivate var knock: Knock?
    fileprivate let user: UserName
    /// How long the address shall stay open at most; see `Order`.
    fileprivate let seconds: UInt32
    /// In microseconds since boot.
    fileprivate let time: Int64
    /// The number of the action whose command runs for it.
    fileprivate let number: UInt32
    /// Whether a repeat has relied on it.
    fileprivate var isRepeated: Bool
  }

  private let entries: Storage<Entry>
  private var first = 0
  private var count = 0
  private var lastNumber: UInt32 = 0

  /// - Parameter entries: at least one.
  public init(_ entries: consuming Storage<Entry>) {
    precondition(entries.count >= 1)
    self.entries = entries
  }

  /// Records a knock.
  ///
  /// - Parameters:
  ///   - seconds: how long the address shall stay open at most; see `Order`.
  ///   - now: microseconds since boot.
  /// - Returns: whether it is a repeat: the last knock of the user for its address was the same, and just now, and
  ///   nobody has asked for another command since. And the number of the action whose command runs for it: a new
  ///   number, modulo 2^32, unless it is a repeat.
  @inline(never)
  public mutating func record(
    _ knock: Knock, by user: UserName, seconds: UInt32 = 0, now: Int64
  ) -> (isRepeat: Bool, number: UInt32) {
    while count > 0, now - entries[first].time > Self.interval { dropFirst() }
    let last = position(of: knock.address) {
      $0.user == user && $0.knock == knock && $0.seconds == seconds
    }
    let isRepeat = last != nil
    if !isRepeat { lastNumber &+= 1 }
    let number = last.map { entries[$0].number } ?? lastNumber
    remove(knock.address) { $0.user == user || $0.knock?.command != knock.command }
    if count == entries.count { dropFirst() }
    if count == 0 { first = 0 }  // A short list then touches few pages.
    let place = first + count
    entries[place < entries.count ? place : place - entries.count] = Entry(
      knock: knock, user: user, seconds: seconds, time: now, number: number, isRepeated: isRepeat)
    count += 1
    return (isRepeat, number)
  }

  /// Records that the command of an action has failed. The next knock is then not a repeat, unless another command
  /// was asked for meanwhile: a late failure changes nothing about a newer action.
  ///
  /// - Returns: whether a repeat has relied on it, so that the command must run again. That repeat then counts as
  ///   the first knock.
  public mutating func recordFailure(_ action: Action) -> Bool {
    let position = position(of: action.knock.address) {
      $0.number == action.number && $0.user == action.user
    }
    guard let position else { return false }
    guard entries[position].isRepeated else {
      entries[position].knock = nil
      return false
    }
    entries[position].isRepeated = false
    return true
  }

  /// Forgets an address, so that its next knock is not a repeat.
  @inline(never)
  public mutating func forget(_ address: Address) { remove(address) { _ in true } }

  /// Removes entries of an address.
  @inline(never)
  private mutating func remove(_ address: Address, where isUnwanted: (Entry) -> Bool) {
    while let position = position(of: address, where: isUnwanted) {
      entries[position].knock = nil
    }
  }

  /// The first entry of an address for which `isWanted` is true. Only those of the address are copied.
  @inline(never)
  private func position(of address: Address, where isWanted: (Entry) -> Bool) -> Int? {
    var position = first
    for _ in 0..<count {
      if unsafe entries.address(of: position).pointee.knock?.address == address,
        isWanted(entries[position])
      {
        return position
      }
      position = position + 1 == entries.count ? 0 : position + 1
    }
    return nil
  }

  @inline(never)
  private mutating func dropFirst() {
    first = first + 1 == entries.count ? 0 : first + 1
    count -= 1
  }
}
