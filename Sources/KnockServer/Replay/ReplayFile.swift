import KnockBase

/// The file that keeps the replay memory for later processes. It is mapped into memory: what was written is
/// still there if the process is killed. Numbers are little-endian, offsets and sizes in bytes.
///
///     offset  size     field
///     0       32       see `FileHeader`
///     64      40       mark: counter, time, sequence number, floor, checksum
///     128     40       mark, as above
///     4096    56 each  records, see `ReplayMemory.Record`
///
/// The two marks are written in turn; the one with the greater counter is valid. The time of the mark is the
/// latest that a server has seen. If the clock says less, it has gone back. The sequence number is that of the
/// last complete record. Datagrams with a time stamp up to the floor are refused. Times are in microseconds since
/// the Unix epoch.
public struct ReplayFile: ~Copyable {
  /// Offsets of the marks, in numbers of 8 bytes.
  private static let markOffsets = (8, 16)

  /// The first page, as numbers.
  private let header: Storage<UInt64>
  private var counter: UInt64 = 0
  /// Microseconds since the Unix epoch; nil if there is none in the file.
  public private(set) var mark: Int64?
  /// The sequence number of the last record.
  private(set) var sequence: UInt64 = 0
  private(set) var floor = Int64.min

  /// The size of a file for a number of records, in bytes.
  public static func size(forRecords count: Int) -> Int {
    FileHeader.pageSize + count * MemoryLayout<ReplayMemory.Record>.stride
  }

  /// Writes the first page of a file that is all zero. `time` is the time of the mark.
  public init(new header: consuming Storage<UInt64>, capacity: Int, time: Int64) {
    self.header = header
    FileHeader.write(.replay, capacity: capacity, to: self.header)
    raiseMark(to: time, sequence: 0, floor: floor)
  }

  /// Reads the first page of an existing file. If both marks are damaged, there is none.
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

  /// Writes the mark. Its values never go down. Without a new time, the time stays as it is.
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
