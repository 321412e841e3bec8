import KnockBase
import KnockProtocol

/// The last command for each address that knocked just now. It tells a repeat, which a client sends in case the
/// first datagram was lost, from a new knock. Bounded: if there are more, the oldest are forgotten.
public struct RecentKnocks: ~Copyable {
  /// How long after a knock the same one is a repeat.
  private static let interval = 2 * Microseconds.second

  public struct Entry: BitwiseCopyable {
    /// Nil if a later entry has the address.
    fileprivate var knock: Knock?
    /// In monotonic microseconds.
    fileprivate let time: Int64
    /// Whether a repeat has relied on it.
    fileprivate var isRepeated: Bool
  }

  private let entries: Storage<Entry>
  private var first = 0
  private var count = 0

  /// - Parameter entries: at least one.
  public init(_ entries: consuming Storage<Entry>) {
    precondition(entries.count >= 1)
    self.entries = entries
  }

  /// Records a knock.
  ///
  /// - Parameter now: monotonic microseconds.
  /// - Returns: whether it is a repeat: the last knock for its address was the same, and just now.
  public mutating func record(_ knock: Knock, now: Int64) -> Bool {
    while count > 0, now - entries[first].time > Self.interval { dropFirst() }
    let isRepeated = forget(knock.address) == knock.command
    if count == entries.count { dropFirst() }
    if count == 0 { first = 0 }  // A short list then touches few pages.
    entries[(first + count) % entries.count] = Entry(
      knock: knock, time: now, isRepeated: isRepeated)
    count += 1
    return isRepeated
  }

  /// Records that the command of a knock has failed. The next one is then not a repeat, unless another command was
  /// asked for meanwhile.
  ///
  /// - Returns: whether a repeat has relied on it, so that the command must run again. That repeat then counts as
  ///   the first knock.
  public mutating func recordFailure(_ knock: Knock) -> Bool {
    guard let position = position(of: knock.address), entries[position].knock == knock else {
      return false
    }
    guard entries[position].isRepeated else {
      entries[position].knock = nil
      return false
    }
    entries[position].isRepeated = false
    return true
  }

  /// Forgets an address, so that its next knock is not a repeat. Returns the last command for it.
  @discardableResult public mutating func forget(_ address: Address) -> Command? {
    guard let position = position(of: address) else { return nil }
    let command = entries[position].knock?.command
    entries[position].knock = nil
    return command
  }

  private func position(of address: Address) -> Int? {
    var position = first
    for _ in 0..<count {
      if entries[position].knock?.address == address { return position }
      position = position + 1 == entries.count ? 0 : position + 1
    }
    return nil
  }

  private mutating func dropFirst() {
    first = (first + 1) % entries.count
    count -= 1
  }
}
