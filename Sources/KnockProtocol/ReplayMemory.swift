/// Remembers the MAC of each accepted datagram for as long as its time stamp could be accepted
/// again, so that none is acted on twice.
///
/// The MAC is the key because nobody without the pre-shared key can make a second MAC for the same
/// request. Bounded, and closed when full: a new datagram is then refused, and nothing that could
/// still be replayed is forgotten. Entries leave in the order in which they came, so one is kept
/// at least until its own time stamp + drift has passed and at most for twice the drift. Cost is
/// constant: the records are a ring, found through a hash table with linear probing that is at
/// most half full and has no tombstones.
public struct ReplayMemory: ~Copyable {
  /// A remembered datagram: 40 bytes.
  public struct Record: BitwiseCopyable {
    var mac: (UInt64, UInt64, UInt64, UInt64)
    var timeStamp: Double
  }

  private let records: Storage<Record>
  /// Positions in `records` + 1, where the first quarter of the MAC points or behind; 0 is empty.
  private let index: Storage<UInt32>
  private var first = 0
  private var count = 0
  /// The latest time stamp that was ever forgotten. In a clock that goes forward nothing as old is
  /// fresh. After one that went back it is refused, since it may be a replay.
  private var forgotten = -Double.infinity

  /// - Parameters:
  ///   - records: one for each datagram to remember; at least 1, at most 2^30.
  ///   - index: a power of two of entries, at least twice as many as `records`; zeroed.
  public init(records: consuming Storage<Record>, index: consuming Storage<UInt32>) {
    precondition(records.count >= 1 && index.count >= 2 * records.count)
    precondition(index.count & (index.count - 1) == 0)
    self.records = records
    self.index = index
  }

  /// The number of index entries that `records` of this count need.
  public static func indexCount(forRecords count: Int) -> Int {
    var size = 2
    while size < 2 * count { size *= 2 }
    return size
  }

  /// Remembers a datagram that is about to be acted on.
  ///
  /// - Parameters:
  ///   - mac: its MAC, 32 bytes, verified.
  ///   - timeStamp: its time stamp, within the drift of `now`.
  ///   - now, driftSeconds: as the freshness check had them.
  /// - Throws: `replayed`, `olderThanMemory`, `replayMemoryFull`.
  mutating func remember(
    _ mac: Span<UInt8>, timeStamp: Double, now: Double, driftSeconds: Double
  ) throws(Refusal) {
    let mac = (
      mac.littleEndian(at: 0, count: 8), mac.littleEndian(at: 8, count: 8),
      mac.littleEndian(at: 16, count: 8), mac.littleEndian(at: 24, count: 8)
    )
    var slot = home(of: mac.0)
    while let position = position(in: slot) {
      if records[position].mac == mac { throw .replayed }
      slot = next(slot)
    }
    // The same subtraction as in the freshness check, so that no rounding lies between the two.
    while count > 0, now - records[first].timeStamp > driftSeconds { forgetFirst() }
    guard timeStamp > forgotten else { throw .olderThanMemory }
    guard count < records.count else { throw .replayMemoryFull }
    if count == 0 { first = 0 }  // Few knocks then touch few pages.

    let position = (first + count) % records.count
    records[position] = Record(mac: mac, timeStamp: timeStamp)
    count += 1
    slot = home(of: mac.0)
    while index[slot] != 0 { slot = next(slot) }
    index[slot] = UInt32(position + 1)
  }

  private mutating func forgetFirst() {
    let record = records[first]
    var hole = home(of: record.mac.0)
    while let position = position(in: hole), position != first { hole = next(hole) }
    // Closes the gap: each entry behind it moves up unless that would put it before its home.
    var slot = next(hole)
    while let position = position(in: slot) {
      let home = home(of: records[position].mac.0)
      if distance(from: home, to: slot) >= distance(from: hole, to: slot) {
        index[hole] = index[slot]
        hole = slot
      }
      slot = next(slot)
    }
    index[hole] = 0
    forgotten = max(forgotten, record.timeStamp)
    first = (first + 1) % records.count
    count -= 1
  }

  private func position(in slot: Int) -> Int? {
    index[slot] == 0 ? nil : Int(index[slot]) - 1
  }

  private func home(of macStart: UInt64) -> Int {
    Int(truncatingIfNeeded: macStart) & (index.count - 1)
  }

  private func next(_ slot: Int) -> Int { (slot + 1) & (index.count - 1) }

  private func distance(from start: Int, to end: Int) -> Int { (end - start) & (index.count - 1) }
}
