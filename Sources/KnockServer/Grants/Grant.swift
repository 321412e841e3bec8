import KnockBase
import KnockProtocol

/// An address that a knock of a user named, and what it opened. That has two parts, which are closed one by one: a
/// range in a set, and what a command did.
///
/// Times are in microseconds since the Unix epoch, by the system's clock.
public struct Grant: BitwiseCopyable, Sendable {
  /// How the command that opens has ended. Several grants of an address share it: one of them has its state.
  public enum Command: UInt8, BitwiseCopyable, Sendable {
    /// There was none, or what it did is closed again.
    case none
    /// It waits or runs, or nobody knows.
    case pending
    case succeeded, failed
    /// Another grant of the address has its state.
    case shared
  }

  /// `ends` and `setEnds` of what has no end.
  public static let never = Int64.max

  public let user: UserName
  /// The key that signed the last knock; `none` if no record says so.
  public let key: KeyFingerprint
  public let address: Address
  /// How many bits of the address all addresses of the range have.
  public private(set) var prefixLength: UInt8
  /// Whether the set could hold only the address itself, and not its range.
  public private(set) var isNarrowed: Bool
  /// The number of the set in `SetNames`; 0 if there was none, or it is closed again.
  public internal(set) var set: UInt16
  public var command: Command
  /// Whether there was a command to close with.
  public var hasCloseCommand: Bool
  /// When access was opened, when it was asked for last, and when it is to be closed.
  public internal(set) var since: Int64
  public internal(set) var asked: Int64
  public internal(set) var ends: Int64
  /// When the kernel removes the address from the set by itself.
  public internal(set) var setEnds: Int64

  init(
    _ address: Address, user: UserName, key: KeyFingerprint, prefixLength: UInt8? = nil,
    isNarrowed: Bool = false,
    set: UInt16 = 0, command: Command = .none,
    hasCloseCommand: Bool = false, since: Int64, asked: Int64, ends: Int64,
    setEnds: Int64 = Self.never
  ) {
    self.address = address
    self.user = user
    self.key = key
    self.prefixLength = prefixLength ?? UInt8(address.family.addressBits)
    self.isNarrowed = isNarrowed
    self.set = set
    self.command = command
    self.hasCloseCommand = hasCloseCommand
    self.since = since
    self.asked = asked
    self.ends = ends
    self.setEnds = setEnds
  }

  public var range: AddressRange { AddressRange(address, prefixLength: Int(prefixLength)) }

  /// Whether its element of the set has a time. One without may be ours if this one has none, too.
  public var isTimed: Bool { setEnds != Self.never }

  /// Whether it has the state of the command.
  var holdsCommand: Bool { command != .none && command != .shared }

  /// Whether nothing is left to close.
  var isClosed: Bool { self.set == 0 && command == .none }

  /// Records that it is not in the set any more.
  mutating func closeSet() {
    set = 0
    prefixLength = UInt8(address.family.addressBits)
  }

  /// Whether the range has more than the address itself.
  var isRange: Bool { prefixLength < address.family.addressBits }

  mutating func narrow() {
    prefixLength = UInt8(address.family.addressBits)
    isNarrowed = true
  }
}
