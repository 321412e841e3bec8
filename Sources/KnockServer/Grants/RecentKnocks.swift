import KnockBase
import KnockProtocol

/// What was asked for last, so that a knock which the client repeats for a lossy path is told from a new
/// wish. For each address the last command counts. Bounded: of more than fit the oldest are forgotten.
public struct RecentKnocks: ~Copyable {
  /// How long after a knock another one is its repetition (milliseconds).
  private static let interval: Int64 = 2000

  public struct Entry: BitwiseCopyable {
    /// Nil where a later entry has the address.
    fileprivate var knock: Knock?
    /// In monotonic milliseconds.
    fileprivate let time: Int64
    /// Whether a repetition has relied on it.
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

  /// Notes a knock.
  ///
  /// - Parameter now: monotonic milliseconds.
  /// - Returns: whether the last one for its address asked for the same, and not long ago.
  public mutating func note(_ knock: Knock, now: Int64) -> Bool {
    while count > 0, now - entries[first].time > Self.interval { dropFirst() }
    let isRepeated = forget(knock.address) == knock.command
    if count == entries.count { dropFirst() }
    if count == 0 { first = 0 }  // A short list then touches few pages.
    entries[(first + count) % entries.count] = Entry(
      knock: knock, time: now, isRepeated: isRepeated)
    count += 1
    return isRepeated
  }

  /// Hears that what a knock asked for could not be done: the next one is a new one, unless something else was
  /// asked for meanwhile.
  ///
  /// - Returns: whether a repetition has relied on it, and it is to be done once more. Then it is as if that
  ///   one were new.
  public mutating func noteFailure(_ knock: Knock) -> Bool {
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

  /// Has the next knock for an address be a new one. Returns the last command for it.
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
