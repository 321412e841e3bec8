import KnockBase

/// The file in which the replay memory outlives the process: mapped into it, so that whatever has been
/// written is there when it is killed. All numbers are little-endian, offsets and sizes in bytes.
///
///     offset  size    field
///     0       32      see `FileHeader`
///     64, 128 40      the mark, twice, written by turns: counter, time, sequence, floor, checksum
///     4096    56 each the records
///
/// The time of the mark is the latest that is known to have been: microseconds since the Unix epoch. A clock
/// that says less has gone back. Its sequence is that of the last record that was written to its end, and
/// its floor the time stamp up to which everything is refused.
public struct ReplayFile: ~Copyable {
  private static let markOffsets = (8, 16)

  /// The header, as numbers.
  private let header: Storage<UInt64>
  private var counter: UInt64 = 0
  /// Microseconds since the Unix epoch; nil if there is none in the file.
  public private(set) var mark: Int64?
  /// Of the last record.
  private(set) var sequence: UInt64 = 0
  private(set) var floor = Int64.min

  /// The size of a file for a number of records, in bytes.
  public static func size(forRecords count: Int) -> Int {
    FileHeader.pageSize + count * MemoryLayout<ReplayMemory.Record>.stride
  }

  /// Begins a file that is all zero, at a time.
  public init(new header: consuming Storage<UInt64>, capacity: Int, time: Int64) {
    self.header = header
    FileHeader.write(.replay, capacity: capacity, to: self.header)
    raiseMark(to: time, sequence: 0, floor: floor)
  }

  /// Takes up a file that was there. The marks may both be damaged; then there is none.
  public init(existing header: consuming Storage<UInt64>) {
    self.header = header
    readMark(at: Self.markOffsets.0)
    readMark(at: Self.markOffsets.1)
  }

  /// How many records an existing file has.
  public static func capacity(
    of header: borrowing Storage<UInt64>
  ) throws(FileHeader.Failure) -> Int {
    try FileHeader.capacity(of: header, .replay)
  }

  private mutating func readMark(at offset: Int) {
    let number = header[littleEndian: offset]
    guard number > counter, header[littleEndian: offset + 4] == checksum(ofMarkAt: offset) else {
      return
    }
    counter = number
    mark = Int64(bitPattern: header[littleEndian: offset + 1])
    sequence = header[littleEndian: offset + 2]
    floor = Int64(bitPattern: header[littleEndian: offset + 3])
  }

  private func checksum(ofMarkAt offset: Int) -> UInt64 {
    var sum = Checksum()
    for index in offset..<offset + 4 { sum.add(header[littleEndian: index]) }
    return sum.value
  }

  /// Raises the mark. None of its values ever goes down, and the time stays without a new one.
  mutating func raiseMark(to time: Int64?, sequence: UInt64, floor: Int64) {
    let newTime = max(time ?? mark ?? 0, mark ?? .min)
    counter &+= 1
    mark = newTime
    self.sequence = max(self.sequence, sequence)
    self.floor = max(self.floor, floor)
    let offset = counter % 2 == 0 ? Self.markOffsets.0 : Self.markOffsets.1
    header[littleEndian: offset] = counter
    header[littleEndian: offset + 1] = UInt64(bitPattern: newTime)
    header[littleEndian: offset + 2] = self.sequence
    header[littleEndian: offset + 3] = UInt64(bitPattern: self.floor)
    header[littleEndian: offset + 4] = checksum(ofMarkAt: offset)
  }
}
