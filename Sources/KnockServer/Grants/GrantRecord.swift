import KnockBase
import KnockProtocol

extension Grants {
  /// A grant in the journal: 128 bytes, all zero if the place is free. Offsets in bytes:
  ///
  ///     offset  size  field
  ///     0       1     address family: 4 or 6
  ///     1       1     the length of the prefix in the set (bits)
  ///     2       2     the number of the set; see `SetNames`
  ///     4       1     the state of the command: see `Grant.Command`; plus 128 if there is one to close with
  ///     5       1     1 if the set could hold only the address itself, and not its range
  ///     6       2     zero
  ///     8       16    address: the upper and the lower half of IPv6, or 0 and IPv4
  ///     24      8     when access was opened
  ///     32      8     when it was asked for last
  ///     40      8     when access is to be closed; the greatest number means never
  ///     48      8     when the kernel ends it; the greatest number means never
  ///     56      8     sequence number, from 1. Of two records for the same the later one is valid.
  ///     64      8     the place where the command ran: see `Grants.init`
  ///     72      32    the name of the user, then zeros; all zero for the user without a name
  ///     104     16    the fingerprint of the key
  ///     120     8     checksum of the other fields
  ///
  /// Numbers are little-endian. Times are in microseconds since the Unix epoch, by the system's clock.
  public struct Record: BitwiseCopyable {
    /// The longest that a grant may last (microseconds): the longest duration of an option or of the kernel.
    static let longest = 366 * 86_400 * Microseconds.second
    /// The latest time at which a grant may have been asked for: the year 2286.
    static let latest = 10_000_000_000 * Microseconds.second

    private var words = InlineArray<16, LittleEndian<UInt64>>(
      repeating: LittleEndian(wrappedValue: 0))

    /// An empty record.
    init() {}

    init(_ grant: Grant, sequence: UInt64, place: UInt64) {
      let family: UInt64
      switch grant.address {
      case .inet(let bits): (family, self[2]) = (4, UInt64(bits))
      case .inet6(let high, let low): (family, self[1], self[2]) = (6, high, low)
      }
      let command = UInt64(grant.command.rawValue) | (grant.hasCloseCommand ? 128 : 0)
      self[0] =
        family | UInt64(grant.prefixLength) << 8 | UInt64(grant.set) << 16 | command << 32
        | (grant.isNarrowed ? 1 << 40 : 0)
      self[3] = UInt64(bitPattern: grant.since)
      self[4] = UInt64(bitPattern: grant.asked)
      self[5] = UInt64(bitPattern: grant.ends)
      self[6] = UInt64(bitPattern: grant.setEnds)
      self[7] = sequence
      self[8] = place
      for index in 0..<4 { self[9 + index] = grant.user[index] }
      (self[13], self[14]) = (grant.key.low, grant.key.high)
      self[15] = expectedChecksum
    }

    private subscript(index: Int) -> UInt64 {
      get { words[index].wrappedValue }
      set { words[index].wrappedValue = newValue }
    }

    private var expectedChecksum: UInt64 {
      var sum = Checksum()
      for index in 0..<15 { sum.add(self[index]) }
      return sum.value
    }

    public var isEmpty: Bool {
      var bits: UInt64 = 0
      for index in 0..<16 { bits |= self[index] }
      return bits == 0
    }

    var sequence: UInt64 { self[7] }
    var place: UInt64 { self[8] }

    /// Nil if the record is empty, was not written to its end, or has values that no server writes.
    public var grant: Grant? {
      guard self[15] == expectedChecksum, sequence > 0, sequence < 1 << 63, self[0] >> 40 <= 1,
        let command = Grant.Command(rawValue: UInt8(self[0] >> 32 & 127)),
        let user = UserName(word: { self[9 + $0] })
      else { return nil }
      let address: Address
      let shortest: UInt8
      switch self[0] & 255 {
      case 4:
        guard self[1] == 0, let bits = UInt32(exactly: self[2]) else { return nil }
        (address, shortest) = (.inet(bits), 16)
      case 6: (address, shortest) = (.inet6(high: self[1], low: self[2]), 48)
      default: return nil
      }
      let grant = Grant(
        address, user: user, key: KeyFingerprint(low: self[13], high: self[14]),
        prefixLength: UInt8(truncatingIfNeeded: self[0] >> 8), isNarrowed: self[0] >> 40 != 0,
        set: UInt16(truncatingIfNeeded: self[0] >> 16), command: command,
        hasCloseCommand: self[0] >> 39 & 1 != 0, since: Int64(bitPattern: self[3]),
        asked: Int64(bitPattern: self[4]), ends: Int64(bitPattern: self[5]),
        setEnds: Int64(bitPattern: self[6]))
      guard address.refusal == nil, !grant.isClosed,
        grant.prefixLength >= shortest, grant.prefixLength <= address.family.addressBits,
        grant.since >= 0, grant.since <= grant.asked, grant.asked <= Self.latest,
        Self.isEnd(grant.ends, of: grant), Self.isEnd(grant.setEnds, of: grant)
      else { return nil }
      return grant
    }

    private static func isEnd(_ end: Int64, of grant: Grant) -> Bool {
      end == Grant.never || end >= grant.asked && end - grant.asked <= longest
    }
  }
}
