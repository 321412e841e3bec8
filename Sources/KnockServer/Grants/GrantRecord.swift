import KnockBase
import KnockProtocol

extension Grants {
  /// A grant in the journal: 64 bytes, all zero if the place is free. Offsets in bytes:
  ///
  ///     offset  size  field
  ///     0       8     address family: 4 or 6
  ///     8       16    address: the upper and the lower half of IPv6, or 0 and IPv4
  ///     24      8     when access was opened
  ///     32      8     when it was asked for last
  ///     40      8     when access is to be closed
  ///     48      8     sequence number, from 1. Of two records for one address the later one is valid.
  ///     56      8     checksum of the other fields
  ///
  /// Numbers are little-endian. Times are in microseconds since the Unix epoch, by the system's clock.
  public struct Record: BitwiseCopyable {
    /// The longest that a grant may last (microseconds): the longest duration of an option.
    private static let longest = 366 * 86_400 * Microseconds.second
    /// The latest time at which a grant may have been asked for: the year 2286.
    static let latest = 10_000_000_000 * Microseconds.second

    @LittleEndian private var family: UInt64
    @LittleEndian private var high: UInt64
    @LittleEndian private var low: UInt64
    @LittleEndian public private(set) var since: Int64
    @LittleEndian private(set) var asked: Int64
    @LittleEndian public private(set) var ends: Int64
    @LittleEndian private(set) var sequence: UInt64
    @LittleEndian private var checksum: UInt64

    /// An empty record.
    init() {
      (family, high, low, since, asked, ends, sequence, checksum) = (0, 0, 0, 0, 0, 0, 0, 0)
    }

    init(_ address: Address, since: Int64, asked: Int64, ends: Int64, sequence: UInt64) {
      switch address {
      case .inet(let bits): (family, high, low) = (4, 0, UInt64(bits))
      case .inet6(let high, let low): (family, self.high, self.low) = (6, high, low)
      }
      self.since = since
      self.asked = asked
      self.ends = ends
      self.sequence = sequence
      checksum = 0
      checksum = expectedChecksum
    }

    private var expectedChecksum: UInt64 {
      var sum = Checksum()
      sum.add(family)
      sum.add(high)
      sum.add(low)
      sum.add(UInt64(bitPattern: since))
      sum.add(UInt64(bitPattern: asked))
      sum.add(UInt64(bitPattern: ends))
      sum.add(sequence)
      return sum.value
    }

    var isEmpty: Bool {
      family | high | low | UInt64(bitPattern: since | asked | ends) | sequence | checksum == 0
    }

    /// Nil if the record is empty, was not written to its end, or has values that no server writes.
    public var address: Address? {
      guard checksum == expectedChecksum, sequence > 0, sequence < 1 << 63,
        since >= 0, since <= asked, asked <= ends, asked <= Self.latest,
        ends - asked <= Self.longest
      else { return nil }
      let address: Address
      switch family {
      case 4:
        guard high == 0, let bits = UInt32(exactly: low) else { return nil }
        address = .inet(bits)
      case 6: address = .inet6(high: high, low: low)
      default: return nil
      }
      return address.refusal == nil ? address : nil
    }

    /// How much longer the grant lasts (microseconds). 0 if the clock has gone back since it was asked for: then
    /// nobody can tell.
    func remaining(at now: Int64) -> Int64 { now < asked ? 0 : max(0, ends - now) }
  }
}
