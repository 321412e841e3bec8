import KnockBase
import KnockProtocol

/// Remembers the MAC of each accepted datagram for as long as its time stamp could be accepted
/// again, so that none is acted on twice.
///
/// The MAC is the key because nobody without the pre-shared key can make a second MAC for the same
/// request. Bounded, and closed when full: a new datagram is then refused, and nothing that could
/// still be replayed is forgotten. Entries leave in the order in which they came, so one is kept
/// at least until its own time stamp + drift has passed and at most for twice the drift. Cost is
/// constant: the records are a ring, found through a hash table.
public struct ReplayMemory: ~Copyable {
  /// A remembered datagram: 56 bytes. All zero where there never was one. It has the same form in
  /// memory and in a file, so it carries what tells whether it was written to its end.
  public struct Record: BitwiseCopyable {
    @LittleEndian private var mac0: UInt64
    @LittleEndian private var mac1: UInt64
    @LittleEndian private var mac2: UInt64
    @LittleEndian private var mac3: UInt64
    @LittleEndian private(set) var timeStamp: Int64
    /// Counts from 1, to less than 2^63.
    @LittleEndian private(set) var sequence: UInt64
    @LittleEndian private var checksum: UInt64

    var mac: (UInt64, UInt64, UInt64, UInt64) { (mac0, mac1, mac2, mac3) }

    init(mac: (UInt64, UInt64, UInt64, UInt64), timeStamp: Int64, sequence: UInt64) {
      (mac0, mac1, mac2, mac3) = mac
      self.timeStamp = timeStamp
      self.sequence = sequence
      checksum = 0
      checksum = expectedChecksum
    }

    private var expectedChecksum: UInt64 {
      var sum = Checksum()
      sum.add(mac0)
      sum.add(mac1)
      sum.add(mac2)
      sum.add(mac3)
      sum.add(UInt64(bitPattern: timeStamp))
      sum.add(sequence)
      return sum.value
    }

    var isEmpty: Bool {
      mac0 | mac1 | mac2 | mac3 | UInt64(bitPattern: timeStamp) | sequence | checksum == 0
    }
    var isValid: Bool {
      sequence > 0 && sequence < 1 << 63 && checksum == expectedChecksum
    }
  }

  private let records: Storage<Record>
  /// By the first quarter of the MAC.
  private let index: PositionIndex
  /// Where the records are kept, if they are to outlive the process.
  private var file: ReplayFile?
  private let isKept: Bool
  private var first = 0
  /// How many datagrams are remembered.
  public private(set) var count = 0
  private var nextSequence: UInt64 = 1
  /// The latest time stamp that was ever forgotten. In a clock that goes forward nothing as old is
  /// fresh. After one that went back it is refused, since it may be a replay.
  private var forgotten = Int64.min

  /// - Parameters:
  ///   - records: one for each datagram to remember; at least 1, at most 2^30.
  ///   - index: for as many.
  ///   - file: what `records` are a part of.
  public init(
    records: consuming Storage<Record>, index: consuming PositionIndex,
    file: consuming ReplayFile? = nil
  ) {
    precondition(records.count >= 1 && index.holds(records.count))
    self.records = records
    self.index = index
    isKept = file != nil
    self.file = file
  }

  /// Remembers a datagram that is about to be acted on.
  ///
  /// - Parameters:
  ///   - mac: its MAC, 32 bytes, verified.
  ///   - timeStamp: its time stamp, within the drift of `now`.
  ///   - now, drift: as the freshness check had them.
  /// - Throws: `replayed`, `olderThanMemory`, `replayMemoryFull`.
  mutating func remember(
    _ mac: Span<UInt8>, timeStamp: Int64, now: Int64, drift: Int64
  ) throws(Refusal) {
    let mac = (
      mac.littleEndian(at: 0, count: 8), mac.littleEndian(at: 8, count: 8),
      mac.littleEndian(at: 16, count: 8), mac.littleEndian(at: 24, count: 8)
    )
    guard index.first(hash: mac.0, where: { records[$0].mac == mac }) == nil else {
      throw .replayed
    }
    forgetStale(now: now, drift: drift)
    guard timeStamp > forgotten else { throw .olderThanMemory }
    guard count < records.count else { throw .replayMemoryFull }
    // Few knocks then touch few pages. In a file, the place of the next record must be known.
    if count == 0, !isKept { first = 0 }

    append(mac, timeStamp: timeStamp)
    noteTime(now)
  }

  /// Takes a record as the last one. There must be room.
  private mutating func append(_ mac: (UInt64, UInt64, UInt64, UInt64), timeStamp: Int64) {
    let position = (first + count) % records.count
    records[position] = Record(mac: mac, timeStamp: timeStamp, sequence: nextSequence)
    nextSequence += 1
    count += 1
    index.enter(position, hash: mac.0)
  }

  /// Notes that a time has been, for a later process whose clock may say less. Without one, only what else the
  /// mark has.
  mutating func noteTime(_ now: Int64? = nil) {
    file?.raiseMark(to: now, sequence: nextSequence - 1, floor: forgotten)
  }

  // What an earlier process has left in the records

  /// Takes up the records as an earlier process has left them. To be called before anything else.
  ///
  /// - Returns: false where some are damaged, and so others may be missing as well.
  public mutating func restore() -> Bool {
    var last: Int?
    var damagedCount = 0
    var unfinished = 0
    for position in 0..<records.count {
      let record = records[position]
      if record.isValid {
        if record.sequence > last.map({ records[$0].sequence }) ?? 0 { last = position }
      } else if !record.isEmpty {
        damagedCount += 1
        unfinished = position
      }
    }
    if let last {
      nextSequence = records[last].sequence + 1
      // The ring: backwards from the last one as long as each is the one before.
      count = 1
      first = last
      while count < records.count {
        let position = (first + records.count - 1) % records.count
        let record = records[position]
        guard record.isValid, record.sequence + 1 == records[first].sequence else { break }
        first = position
        count += 1
      }
    }
    for offset in 0..<count {
      let position = (first + offset) % records.count
      index.enter(position, hash: records[position].mac.0)
    }
    forgotten = file?.floor ?? forgotten
    // A process that was killed leaves one half-written record at most, where the next one was to be.
    // It has not acted on it. All others up to the last are there, or something is missing.
    let isUnfinished = damagedCount == 1 && unfinished == (first + count) % records.count
    var expected = UInt64(records.count)
    if nextSequence <= expected {
      expected = nextSequence - 1
    } else if isUnfinished {
      expected -= 1
    }
    return UInt64(count) == expected && (damagedCount == 0 || isUnfinished)
      && file?.sequence ?? 0 < nextSequence
  }

  /// From now on, refuses what is not stamped later than a time (microseconds since the Unix epoch).
  public mutating func refuse(upTo time: Int64) {
    forgotten = max(forgotten, time)
    noteTime()
  }

  /// Takes over what another memory remembers. False where it has not enough room.
  public mutating func adopt(_ other: borrowing ReplayMemory) -> Bool {
    guard other.count <= records.count, count == 0 else { return false }
    forgotten = other.forgotten
    for offset in 0..<other.count {
      let record = other.records[(other.first + offset) % other.records.count]
      append(record.mac, timeStamp: record.timeStamp)
    }
    noteTime()
    return true
  }

  /// Forgets what could not be accepted any more.
  public mutating func forgetStale(now: Int64, drift: Int64) {
    while count > 0, now.subtractingSaturated(records[first].timeStamp) > drift { forgetFirst() }
  }

  private mutating func forgetFirst() {
    let record = records[first]
    index.leave(first, hash: record.mac.0) { records[$0].mac.0 }
    forgotten = max(forgotten, record.timeStamp)
    first = (first + 1) % records.count
    count -= 1
  }
}
