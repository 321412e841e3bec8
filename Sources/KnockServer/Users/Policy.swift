import KnockBase
import KnockProtocol

/// What a user may do, and what their knocks open.
public struct Policy: BitwiseCopyable, Sendable {
  /// How many ranges `allow` takes.
  public static let rangeLimit = 16

  /// What is opened for an address of one family.
  public struct Place: Equatable, BitwiseCopyable, Sendable {
    /// The number of the set in `SetNames`; 0 for none.
    public var set: UInt16
    /// How many bits of the address all addresses of the range have.
    public var prefixLength: UInt8
    /// Whether what is opened can end by itself.
    public var isTimed: Bool

    public init(set: UInt16, prefixLength: Int, isTimed: Bool = false) {
      self.set = set
      self.prefixLength = UInt8(prefixLength)
      self.isTimed = isTimed
    }
  }

  public var inet: Place
  public var inet6: Place
  /// The families of the addresses that access can be opened for.
  public var families: AddressFamilies
  /// Whether a knock for the unspecified address is for the address that it came from.
  public var allowsObservedSource: Bool
  public var mayOpen = true
  public var mayClose = true
  /// Whether a knock must name the address that it comes from.
  public var isOnlyForSource = false
  /// How long a grant lasts at most (microseconds).
  public var duration: Int64 = .max
  /// From when on the key is refused, in microseconds since the Unix epoch.
  public var expires: Int64 = .max
  private var ranges = InlineArray<16, AddressRange>(
    repeating: AddressRange(.inet(0), prefixLength: 32))
  private var rangeCount: UInt8 = 0

  @inline(never)
  public init(
    inet: Place, inet6: Place, families: AddressFamilies, allowsObservedSource: Bool
  ) {
    self.inet = inet
    self.inet6 = inet6
    self.families = families
    self.allowsObservedSource = allowsObservedSource
  }

  /// Whether it allows exactly the same as another one.
  public func equals(_ other: Policy) -> Bool {
    guard inet == other.inet, inet6 == other.inet6, families == other.families,
      allowsObservedSource == other.allowsObservedSource, mayOpen == other.mayOpen,
      mayClose == other.mayClose, isOnlyForSource == other.isOnlyForSource,
      duration == other.duration, expires == other.expires, rangeCount == other.rangeCount
    else { return false }
    for index in 0..<Int(rangeCount) where ranges[index] != other.ranges[index] { return false }
    return true
  }

  public func place(for family: AddressFamily) -> Place { family == .inet ? inet : inet6 }

  /// Takes `open`, `close` or both. Returns false for another text.
  @inline(never)
  public mutating func setCommands(_ text: Span<UInt8>) -> Bool {
    var isKnown = true
    (mayOpen, mayClose) = (false, false)
    text.visitWords { word in
      if word.equals("open") {
        mayOpen = true
      } else if word.equals("close") {
        mayClose = true
      } else {
        isKnown = false
      }
    }
    return isKnown && (mayOpen || mayClose)
  }

  /// Adds a range that addresses must lie in. Returns false if there is no room.
  @inline(never)
  public mutating func allow(_ range: AddressRange) -> Bool {
    guard rangeCount < Self.rangeLimit else { return false }
    ranges[Int(rangeCount)] = range
    rangeCount += 1
    return true
  }

  /// Whether all addresses of a range lie in one of those that the user may open.
  public func allows(_ range: AddressRange) -> Bool {
    for index in 0..<Int(rangeCount) where ranges[index].contains(range) { return true }
    return rangeCount == 0
  }

  public var hasRanges: Bool { rangeCount > 0 }

  @inline(never)
  public func visitRanges(_ body: (AddressRange) -> Void) {
    for index in 0..<Int(rangeCount) { body(ranges[index]) }
  }

  /// Why the user may not have what a knock asks for; nil if they may.
  ///
  /// - Parameters:
  ///   - knock: an observed source is already in it.
  ///   - source: the address that the datagram came from.
  ///   - seconds: how long the address shall stay open at most; 0 if the knock does not say.
  ///   - wallNow: microseconds since the Unix epoch.
  public func refusal(
    of knock: Knock, from source: Address?, seconds: UInt32, wallNow: Int64
  ) -> Refusal? {
    guard wallNow < expires else { return .expiredKey }
    guard families.contains(knock.address.family) else { return .noSetForFamily }
    guard knock.command == .open ? mayOpen : mayClose else { return .commandNotAllowed }
    let place = place(for: knock.address.family)
    guard seconds == 0 || place.isTimed else { return .timeNotKept }
    let length = Int(place.prefixLength)
    guard allows(AddressRange(knock.address, prefixLength: length)),
      !isOnlyForSource || source == knock.address
    else { return .addressNotAllowed }
    return nil
  }

  /// Whether a knock that is refused for this reason may be allowed for another address.
  public func dependsOnAddress(_ refusal: Refusal) -> Bool {
    switch refusal {
    case .expiredKey, .commandNotAllowed: false
    case .timeNotKept: inet.isTimed || inet6.isTimed
    default: true
    }
  }
}
