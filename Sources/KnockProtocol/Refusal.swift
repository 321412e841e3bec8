import KnockBase

/// Every reason for which the server does not act on a datagram, in the order in which they are
/// looked for. The raw values number the counters.
public enum Refusal: UInt8, Error, Sendable {
  case wrongLength
  case badMAC
  case unknownCommand
  case unknownFamily
  case familyLengthMismatch
  case timeNotFinite
  case stale
  case unspecifiedAddress
  case multicastAddress
  case broadcastAddress
  case noSetForFamily
  case queueFull
  case replayed
  case olderThanMemory
  case replayMemoryFull

  /// One number for each case, by raw value.
  public typealias Counters = InlineArray<15, UInt64>

  /// Whether a knock that was good is lost, and someone should do something about it.
  public var isFailure: Bool { self == .replayMemoryFull || self == .queueFull }

  /// Whether it is who has the key that has sent the datagram, as far as can be known, and just now.
  public var isOfSender: Bool {
    switch self {
    case .wrongLength, .badMAC, .replayed, .olderThanMemory: false
    default: true
    }
  }

  /// For a log line, after "refused ...: ".
  public var reason: StaticString {
    switch self {
    case .wrongLength: "wrong length"
    case .badMAC: "bad MAC"
    case .unknownCommand: "unknown command"
    case .unknownFamily: "unknown address family"
    case .familyLengthMismatch: "address family and length do not match"
    case .timeNotFinite: "time stamp is not a finite number"
    case .stale: "time stamp outside the allowed drift"
    case .unspecifiedAddress: "unspecified address"
    case .multicastAddress: "multicast address"
    case .broadcastAddress: "broadcast address"
    case .noSetForFamily: "no set for its address family"
    case .replayed: "replay of an accepted datagram"
    case .olderThanMemory: "older than the replay memory reaches (did the clock go back?)"
    case .replayMemoryFull: "replay memory full"
    case .queueFull: "command queue full"
    }
  }

  /// For the counters.
  public var name: StaticString {
    switch self {
    case .wrongLength: "wrong-length"
    case .badMAC: "bad-mac"
    case .unknownCommand: "unknown-command"
    case .unknownFamily: "unknown-family"
    case .familyLengthMismatch: "family-length-mismatch"
    case .timeNotFinite: "time-not-finite"
    case .stale: "stale"
    case .unspecifiedAddress: "unspecified-address"
    case .multicastAddress: "multicast-address"
    case .broadcastAddress: "broadcast-address"
    case .noSetForFamily: "no-set-for-family"
    case .replayed: "replayed"
    case .olderThanMemory: "older-than-memory"
    case .replayMemoryFull: "replay-memory-full"
    case .queueFull: "queue-full"
    }
  }
}

extension Address {
  /// Why no single host can have this address as its source, or nil if one can.
  public var refusal: Refusal? {
    switch self {
    case .inet(0), .inet6(0, 0): .unspecifiedAddress
    case .inet(0xFFFF_FFFF): .broadcastAddress
    case .inet(let bits) where bits >> 28 == 0xE: .multicastAddress
    case .inet6(let high, _) where high >> 56 == 0xFF: .multicastAddress
    default: nil
    }
  }
}
