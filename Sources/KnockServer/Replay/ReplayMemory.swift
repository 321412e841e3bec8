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
public struct ReplayMemory: ~Copyable {
  /// A remembered datagram: 56 bytes, all zero if the place was never used. It is the same in memory and in a
  /// file. Offsets in bytes:
  ///
  ///     offset  size  field
  ///     0       32    MAC
  ///     32      8     time stamp: microseconds since the Unix epoch
  ///     40      8     sequence number, from 1
  ///     48      8     checksum of the other fields
  ///
  /// Numbers are little-endian.
  public struct Record: BitwiseCopyable {
    @LittleEndian private var mac0: UInt64
    @LittleEndian private var mac1: UInt64
    @LittleEndian private var mac2: UInt64
    @LittleEndian private var mac3: UInt64
    @LittleEndian private(set) var timeStamp: Int64
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
  /// The hash is the first quarter of the MAC.
  private let index: PositionIndex
  /// The file that the records are in, if there is one.
  private var file: ReplayFile?
  private var first = 0
  /// How many datagrams are remembered.
  public private(set) var count = 0
  private var nextSequence: UInt64 = 1
  /// The greatest time stamp that was ever forgotten. While the clock goes forward, nothing up to it is fresh.
  /// After the clock went back such a datagram may be a replay, and is refused.
  private var floor = Int64.min

  /// - Parameters:
  ///   - records: one for each datagram to remember; at least 1, at most 2^30.
  ///   - index: for as many.
  ///   - file: the file that `records` are in.
  public init(
    records: consuming Storage<Record>, index: consuming PositionIndex,
    file: consuming ReplayFile? = nil
  ) {
    precondition(records.count >= 1 && index.holds(records.count))
    self.records = records
    self.index = index
    self.file = file
  }

  /// Remembers a datagram before the server acts on it.
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
    guard timeStamp > floor else { throw .olderThanMemory }
    guard count < records.count else { throw .replayMemoryFull }
    // Few knocks then touch few pages. In a file the ring must go on where it is: `restore` expects the next
    // record there.
    if count == 0, file == nil { first = 0 }
    append(mac, timeStamp: timeStamp)
    recordTime(now)
  }

  /// Adds a record at the end of the ring. There must be room.
  private mutating func append(_ mac: (UInt64, UInt64, UInt64, UInt64), timeStamp: Int64) {
    let position = (first + count) % records.count
    records[position] = Record(mac: mac, timeStamp: timeStamp, sequence: nextSequence)
    nextSequence += 1
    count += 1
    index.enter(position, hash: mac.0)
  }

  /// Writes the mark of the file. With a time, a later process knows whether the clock has gone back.
  mutating func recordTime(_ now: Int64? = nil) {
    file?.raiseMark(to: now, sequence: nextSequence - 1, floor: floor)
  }

  // What an earlier process has left

  /// Reads the records that an earlier process has left. Call this before anything else.
  ///
  /// - Returns: false if records are damaged. Others may then be missing.
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
      // From the last record backwards, as long as the sequence numbers have no gap.
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
    floor = file?.floor ?? floor
    // A killed process leaves at most one unfinished record, at the next place of the ring. It has not acted on
    // that datagram. All other records up to the last must be there.
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

  /// From now on, refuses time stamps up to this one (microseconds since the Unix epoch).
  public mutating func refuse(upTo time: Int64) {
    floor = max(floor, time)
    recordTime()
  }

  /// Copies the records of another memory. Returns false if there is not enough room.
  public mutating func adopt(_ other: borrowing ReplayMemory) -> Bool {
    guard other.count <= records.count, count == 0 else { return false }
    floor = other.floor
    for offset in 0..<other.count {
      let record = other.records[(other.first + offset) % other.records.count]
      append(record.mac, timeStamp: record.timeStamp)
    }
    recordTime()
    return true
  }

  /// Forgets the datagrams that are no longer fresh.
  public mutating func forgetStale(now: Int64, drift: Int64) {
    while count > 0, now.subtractingSaturated(records[first].timeStamp) > drift { forgetFirst() }
  }

  private mutating func forgetFirst() {
    let record = records[first]
    index.leave(first, hash: record.mac.0) { records[$0].mac.0 }
    floor = max(floor, record.timeStamp)
    first = (first + 1) % records.count
    count -= 1
  }
}
