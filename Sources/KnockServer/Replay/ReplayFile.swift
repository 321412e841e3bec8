import KnockBase

/// The file in which the replay memory outlives the process: mapped into it, so that whatever has been
/// written is there when it is killed. All numbers are little-endian, offsets and sizes in bytes.
///
///     offset  size    field
///     0       32      see `FileHeader`
///     64, 128 40      the mark, twice, written by turns: counter, time, sequence, floor, checksum
///     4096    56 each the records
///
/// The time of the mark is the latest that is known to have been: seconds since the Unix epoch. A clock
/// that says less has gone back. Its sequence is that of the last record that was written to its end, and
/// its floor the time stamp up to which everything is refused.
public struct ReplayFile: ~Copyable {
  private static let markOffsets = (8, 16)

  /// The header, as numbers.
  private let header: Storage<UInt64>
  private var counter: UInt64 = 0
  /// Seconds since the Unix epoch; nil where none is in the file.
  public private(set) var mark: Double?
  /// Of the last record.
  private(set) var sequence: UInt64 = 0
  private(set) var floor = -Double.infinity

  /// The size of a file for a number of records, in bytes.
  public static func size(forRecords count: Int) -> Int {
    FileHeader.pageSize + count * MemoryLayout<ReplayMemory.Record>.stride
  }

  /// Begins a file that is all zero, at a time.
  public init(new header: consuming Storage<UInt64>, capacity: Int, time: Double) {
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
    let number = header[offset]
    let time = Double(bitPattern: header[offset + 1])
    let floor = Double(bitPattern: header[offset + 3])
    guard number > counter, time.isFinite, !floor.isNaN,
      header[offset + 4] == checksum(ofMarkAt: offset)
    else { return }
    counter = number
    mark = time
    sequence = header[offset + 2]
    self.floor = floor
  }

  private func checksum(ofMarkAt offset: Int) -> UInt64 {
    var sum = Checksum()
    for index in offset..<offset + 4 { sum.add(header[index]) }
    return sum.value
  }

  /// Raises the mark. None of its values ever goes down; a time that is not finite says nothing.
  mutating func raiseMark(to time: Double, sequence: UInt64, floor: Double) {
    let newTime = time.isFinite ? max(time, mark ?? time) : mark ?? 0
    counter &+= 1
    mark = newTime
    self.sequence = max(self.sequence, sequence)
    self.floor = max(self.floor, floor)
    let offset = counter % 2 == 0 ? Self.markOffsets.0 : Self.markOffsets.1
    header[offset] = counter
    header[offset + 1] = newTime.bitPattern
    header[offset + 2] = self.sequence
    header[offset + 3] = self.floor.bitPattern
    header[offset + 4] = checksum(ofMarkAt: offset)
  }
}
