import KnockBase

/// The first 32 bytes of each file in the state directory. Numbers are little-endian, offsets and sizes in bytes:
///
///     offset  size    field
///     0       8       kind of file
///     8       8       version of the format: 3, or 4 for grants
///     16      8       capacity: how many records there are
///     24      8       checksum of the other fields
public enum FileHeader {
  /// The records begin after a whole page (bytes).
  public static let pageSize = 4096
  /// In bytes.
  public static let size = 32

  /// The kinds, as their first eight bytes.
  enum Kind: UInt64 {
    case replay = 0x006B_636F_6E6B_7970  // "pyknock" and a NUL
    case grants = 0x476B_636F_6E6B_7970  // "pyknockG"
    case users = 0x556B_636F_6E6B_7970  // "pyknockU"

    /// The version of the format.
    fileprivate var version: UInt64 { self == .grants ? 4 : 3 }
  }

  /// Why a file cannot be used.
  public enum Failure: Error, Equatable, Sendable {
    case foreign
    case older
    case newer(version: UInt64)
    case damagedHeader
  }

  static func write(_ kind: Kind, capacity: Int, to page: borrowing Storage<UInt64>) {
    page[littleEndian: 0] = kind.rawValue
    page[littleEndian: 1] = kind.version
    page[littleEndian: 2] = UInt64(capacity)
    page[littleEndian: 3] = checksum(of: page)
  }

  /// How many records an existing file of this kind has.
  static func capacity(
    of page: borrowing Storage<UInt64>, _ kind: Kind
  ) throws(Failure) -> Int {
    guard page[littleEndian: 0] == kind.rawValue else {
      // All zero: the machine stopped before the header was on the disk.
      for index in 0..<4 where page[index] != 0 { throw .foreign }
      throw .damagedHeader
    }
    let found = page[littleEndian: 1]
    guard found >= kind.version else { throw .older }
    guard found <= kind.version else { throw .newer(version: found) }
    guard page[littleEndian: 3] == checksum(of: page),
      let capacity = Int(exactly: page[littleEndian: 2]),
      capacity >= 1, capacity <= 1 << 24
    else { throw .damagedHeader }
    return capacity
  }

  private static func checksum(of page: borrowing Storage<UInt64>) -> UInt64 {
    var sum = Checksum()
    for index in 0..<3 { sum.add(page[littleEndian: index]) }
    return sum.value
  }
}
